-- Repairs of volumes, as Upstairs tell of them. A row is what is left of all notices of one repair, in whatever order they
-- came. Times are those of the senders, RFC 3339 in UTC; they decide nothing: the order is (epoch, sequence).
CREATE TABLE volume_repair (
    id                   TEXT   NOT NULL PRIMARY KEY,
    volume_id            TEXT   NOT NULL,
    region_set_id        TEXT   NOT NULL,
    region_id            TEXT   NOT NULL,
    incarnation          BIGINT NOT NULL CHECK (incarnation >= 0),
    replaces_region_id   TEXT,
    replaces_incarnation BIGINT,
    bytes                BIGINT NOT NULL CHECK (bytes > 0),

    -- The newest notice of any kind.
    newest_epoch         BIGINT NOT NULL,
    newest_sequence      BIGINT NOT NULL,
    config_version       BIGINT NOT NULL,
    told_at              TEXT   NOT NULL,

    -- The newest of each kind; NULL if none has come. Words are kept as they are told.
    start_epoch          BIGINT,
    start_sequence       BIGINT,
    started_at           TEXT,
    why                  TEXT,

    progress_epoch       BIGINT,
    progress_sequence    BIGINT,
    progressed_at        TEXT,
    phase                TEXT,
    -- JSON: a list of words.
    waits                TEXT,
    -- The most that was told by any.
    bytes_done           BIGINT NOT NULL CHECK (bytes_done >= 0 AND bytes_done <= bytes),

    finish_epoch         BIGINT,
    finish_sequence      BIGINT,
    finished_at          TEXT,
    outcome              TEXT   CHECK (outcome IN ('completed', 'interrupted')),
    interrupted_by       TEXT,

    CHECK ((replaces_region_id IS NULL) = (replaces_incarnation IS NULL)),
    CHECK ((start_epoch IS NULL) = (why IS NULL)),
    CHECK ((progress_epoch IS NULL) = (phase IS NULL)),
    CHECK ((finish_epoch IS NULL) = (outcome IS NULL))
);
CREATE INDEX volume_repair_by_volume ON volume_repair (volume_id, id);

-- Up to where repairs of a volume are forgotten: what comes of one that has no row, and is not newer, is about one of them.
CREATE TABLE volume_repair_forgotten (
    volume_id TEXT   NOT NULL PRIMARY KEY,
    epoch     BIGINT NOT NULL,
    sequence  BIGINT NOT NULL
);

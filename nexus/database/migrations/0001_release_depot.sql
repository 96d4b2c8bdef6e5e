-- The release depot: who is in the cluster, whom it trusts, what every sled should hold.
-- Times are RFC 3339 in UTC; ids are UUIDs in text; hashes are lower-case hexadecimal.

-- One row. The generation moves if and only if wanted_digest does, in the same transaction.
CREATE TABLE cluster (
    singleton     INTEGER PRIMARY KEY CHECK (singleton = 1),
    id            TEXT    NOT NULL,
    generation    BIGINT  NOT NULL CHECK (generation >= 1),
    wanted_digest TEXT    NOT NULL,
    created_at    TEXT    NOT NULL
);

-- The epoch grows by one with each start of the coordinator.
CREATE TABLE coordinator (
    id         TEXT   PRIMARY KEY,
    name       TEXT   NOT NULL,
    epoch      BIGINT NOT NULL,
    version    TEXT   NOT NULL,
    started_at TEXT   NOT NULL
);

CREATE TABLE trust_root (
    id          TEXT   PRIMARY KEY,
    fingerprint TEXT   NOT NULL UNIQUE,
    root_json   TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    expires     TEXT   NOT NULL,
    created_at  TEXT   NOT NULL
);

-- A NULL address: another sled has registered with the address since; unknown until this one registers again.
CREATE TABLE sled (
    id          TEXT   PRIMARY KEY,
    name        TEXT   NOT NULL,
    policy      TEXT   NOT NULL CHECK (policy IN ('in_service', 'no_provision', 'expunged')),
    agent_epoch BIGINT NOT NULL,
    agent_url   TEXT   UNIQUE,
    depot_url   TEXT,
    created_at  TEXT   NOT NULL
);

CREATE TABLE repository (
    id             TEXT PRIMARY KEY,
    system_version TEXT NOT NULL UNIQUE,
    sha256         TEXT NOT NULL,
    file_name      TEXT,
    trust_root_id  TEXT NOT NULL,
    created_at     TEXT NOT NULL
);

CREATE TABLE repository_artifact (
    repository_id TEXT   NOT NULL REFERENCES repository (id) ON DELETE CASCADE,
    name          TEXT   NOT NULL,
    version       TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    target        TEXT   NOT NULL,
    hash          TEXT   NOT NULL,
    size          BIGINT NOT NULL CHECK (size >= 0),
    PRIMARY KEY (repository_id, name, version, kind)
);
CREATE INDEX repository_artifact_by_hash ON repository_artifact (hash);

-- Which coordinator holds the uploaded bytes, and in which file of its staging directory. Written only when the
-- file is durable; the row goes before the file does.
CREATE TABLE staged_repository (
    repository_id  TEXT   NOT NULL REFERENCES repository (id) ON DELETE CASCADE,
    coordinator_id TEXT   NOT NULL REFERENCES coordinator (id),
    file           TEXT   NOT NULL,
    size           BIGINT NOT NULL,
    created_at     TEXT   NOT NULL,
    PRIMARY KEY (repository_id, coordinator_id)
);

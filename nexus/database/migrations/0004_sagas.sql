-- Sagas. Times are RFC 3339 in UTC with six decimals, so that their text is in the order of time.
--
-- A saga row fences what belongs to it: events and marks are inserted only while it has the writer's adoption epoch, and
-- go with it in one transaction. So they are never without it, and need no reference that would be checked a second time.

-- What changes, and what lists show. Small, because the whole row is written at each change.
CREATE TABLE saga (
    id             TEXT   NOT NULL PRIMARY KEY,
    owner          TEXT   NOT NULL,
    adoption_epoch BIGINT NOT NULL CHECK (adoption_epoch >= 0),
    kind           TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    state          TEXT   NOT NULL CHECK (state IN ('unfinished', 'succeeded', 'failed', 'abandoned')),
    created_at     TEXT   NOT NULL,
    ended_at       TEXT,
    -- The node that failed first, and why; NULL unless it failed or was abandoned.
    end_node       TEXT,
    end_error      TEXT,
    -- JSON: how it ended.
    outcome        TEXT,
    -- JSON: why it waits for an operator; NULL if it does not.
    attention      TEXT,
    CHECK ((state = 'unfinished') = (ended_at IS NULL))
) WITHOUT ROWID;

-- What recovery lists: nothing, however many have ended.
CREATE INDEX saga_unfinished ON saga (owner, id) WHERE state = 'unfinished';
CREATE INDEX saga_attention ON saga (created_at, id) WHERE attention IS NOT NULL;
-- What retention takes first.
CREATE INDEX saga_ended ON saga (ended_at, id) WHERE ended_at IS NOT NULL;
-- Pages of lists, newest first.
CREATE INDEX saga_by_time ON saga (created_at, id);
CREATE INDEX saga_by_state ON saga (state, created_at, id);
CREATE INDEX saga_by_kind ON saga (kind, state, created_at, id);

-- What never changes; it may be large.
CREATE TABLE saga_definition (
    saga_id  TEXT NOT NULL PRIMARY KEY,
    -- Which call has created the row.
    creation TEXT NOT NULL,
    digest   TEXT NOT NULL,
    params   TEXT NOT NULL,
    dag      TEXT NOT NULL
);

-- The log. The adoption epoch is that of the writer.
CREATE TABLE saga_event (
    saga_id        TEXT   NOT NULL,
    node           BIGINT NOT NULL,
    event          TEXT   NOT NULL,
    body           TEXT   NOT NULL,
    adoption_epoch BIGINT NOT NULL,
    written_at     TEXT   NOT NULL,
    PRIMARY KEY (saga_id, node, event)
) WITHOUT ROWID;

-- What is noted beside the log. The digest is that of the mark's text, which may be too long for a key.
CREATE TABLE saga_mark (
    saga_id        TEXT   NOT NULL,
    digest         TEXT   NOT NULL,
    mark           TEXT   NOT NULL,
    adoption_epoch BIGINT NOT NULL,
    written_at     TEXT   NOT NULL,
    PRIMARY KEY (saga_id, digest)
) WITHOUT ROWID;

-- The first value of a name stays, and so does the first due time.
CREATE TABLE saga_signal (
    saga_id    TEXT NOT NULL,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    written_at TEXT NOT NULL,
    PRIMARY KEY (saga_id, name)
);

CREATE TABLE saga_timer (
    saga_id    TEXT NOT NULL,
    name       TEXT NOT NULL,
    due        TEXT NOT NULL,
    written_at TEXT NOT NULL,
    PRIMARY KEY (saga_id, name)
);

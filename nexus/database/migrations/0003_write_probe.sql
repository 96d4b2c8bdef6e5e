-- One row, or none. Written to prove that writing works, and never read.
CREATE TABLE write_probe (
    singleton  INTEGER PRIMARY KEY CHECK (singleton = 1),
    written_at TEXT    NOT NULL
);

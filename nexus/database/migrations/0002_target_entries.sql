-- Where in the staged zip the verified bytes of an artifact are: the entry's name. NULL in rows that were written
-- before: those are looked for under the names that the target's path and hash allow.
ALTER TABLE repository_artifact ADD COLUMN entry TEXT;

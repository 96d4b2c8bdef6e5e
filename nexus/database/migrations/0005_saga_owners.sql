-- Unfinished sagas by owner, also of those whose owner is not known beforehand: with the state in front, planners without
-- statistics take this index, and find each owner in one step.
DROP INDEX saga_unfinished;
CREATE INDEX saga_unfinished ON saga (state, owner, id) WHERE state = 'unfinished';

-- Waiting for news of this client's tickets: looked for here, where a look costs no round trip. It returns at the first
-- news that is not among the known owners. Between two looks it waits for the bell of whoever stands before p_number (in
-- line, or holding the name): that bell is a lock which its session lets go of when its release is about to commit, and
-- which is free too where that session is gone. So a release wakes one waiter, the next one, which then waits for the
-- row: until the release is committed, though not until it is on the disk (nor is the lock of the row kept for so long; a
-- crash in between also forgets whatever the waiter wrote). A bell that was rung once, or that nobody has hung up, is not
-- waited for again: then a look follows after a tenth of the time in which nothing happened, within bounds. MySQL counts
-- the patience of GET_LOCK in whole seconds, which SLEEP makes good.
--
-- Who holds a name with limit 1 its row says: where that is p_owner, the answer is this news alone.
CREATE PROCEDURE {wait}(
  IN p_client {WORD}, IN p_known {LIST}, IN p_key {KEY}, IN p_owner {WORD}, IN p_number BIGINT, IN p_alone INT,
  IN p_idle BIGINT, IN p_least BIGINT, IN p_most BIGINT, IN p_bound BIGINT)
READS SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_began BIGINT DEFAULT {NOW};
  DECLARE v_passed, v_found, v_pause, v_token BIGINT DEFAULT 0;
  DECLARE v_bell, v_rung {WORD};
  DECLARE v_got INT;
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
  look: LOOP
    SET v_bell = NULL, v_got = NULL;
    SELECT owner INTO v_bell FROM {line} WHERE `key` = p_key AND number < p_number ORDER BY number DESC LIMIT 1;
    IF v_bell IS NULL THEN
      SELECT owner, token INTO v_bell, v_token FROM {lease} WHERE `key` = p_key;
      IF v_bell = p_owner THEN
        LEAVE look;
      END IF;
    END IF;
    -- As long as the only one of this client that waits has somebody before it whose bell hangs there is no news.
    IF NOT p_alone OR v_bell IS NULL OR v_bell <=> v_rung OR v_passed < 0 OR v_passed >= p_bound THEN
      SELECT COUNT(*) INTO v_found FROM {news} WHERE client = p_client AND NOT FIND_IN_SET(owner, p_known);
      IF v_found > 0 OR v_passed < 0 OR v_passed >= p_bound THEN
        LEAVE look;
      END IF;
    END IF;
    SET v_pause = LEAST(GREATEST((p_idle + v_passed) DIV 10, p_least), p_most, p_bound - v_passed);
    IF v_bell IS NOT NULL AND NOT (v_bell <=> v_rung) THEN
      {QUIETLY}
      SET v_got = GET_LOCK(CONCAT('locksmith:', v_bell), IF(p_alone, p_bound - v_passed, v_pause) / 1000000);
      END;
      IF v_got = 1 THEN
        DO RELEASE_LOCK(CONCAT('locksmith:', v_bell));
        SET v_rung = v_bell;
        {QUIETLY}
        SELECT owner, token INTO v_bell, v_token FROM {lease} WHERE `key` = p_key LOCK IN SHARE MODE;
        END;
        IF v_bell = p_owner THEN
          LEAVE look;
        END IF;
      END IF;
    END IF;
    IF v_got IS NULL OR (v_got = 0 AND {NOW} - v_began - v_passed < v_pause DIV 2) THEN
      DO SLEEP(v_pause / 1000000);
    END IF;
    SET v_passed = {NOW} - v_began;
  END LOOP;
  IF v_bell = p_owner THEN
    SELECT p_owner, p_number, v_token;
  ELSE
    SELECT owner, number, token FROM {news} WHERE client = p_client;
  END IF;
END

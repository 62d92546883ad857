-- Book the next slot of a key: locksmith.pacing.decide. p_terms: full, back and step of each of p_rates rates, in
-- nanoseconds, with a space after each. Comes back: nanoseconds from now to the slot, now; where nothing was booked the
-- first is negative.
CREATE PROCEDURE {pace}(IN p_key {KEY}, IN p_terms {LIST}, IN p_rates INT, IN p_at_most BIGINT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_now, v_seen, v_lead, v_passed, v_slot BIGINT;
  DECLARE v_last, v_most BIGINT DEFAULT -9007199254740992;
  DECLARE v_lives, v_at, v_count BIGINT DEFAULT 0;
  DECLARE v_leads, v_before, v_after {LIST};
  {BEGIN}
  {START}
  -- A row to lock: nothing keeps two from finding none.
  INSERT INTO {pace_table} (`key`) VALUES (p_key) ON DUPLICATE KEY UPDATE `key` = p_key;
  SET v_now = {NOW};
  SELECT seen, last, leads INTO v_seen, v_slot, v_before FROM {pace_table} WHERE `key` = p_key FOR UPDATE;
  SET v_leads = '';
  IF v_before = '' THEN
    SET v_seen = v_now;
    WHILE v_at < p_rates DO
      SET v_leads = CONCAT(v_leads, v_last, ' '), v_at = v_at + 1;
    END WHILE;
  ELSE
    SET v_passed = GREATEST(0, v_now - v_seen) * 1000, v_last = v_slot - v_passed;
    SET v_count = LENGTH(v_before) - LENGTH(REPLACE(v_before, ' ', ''));
    WHILE v_at < v_count DO
      SET v_at = v_at + 1;
      SET v_most = GREATEST(v_most, CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(v_before, ' ', v_at), ' ', -1) AS SIGNED));
    END WHILE;
    SET v_at = 0;
    WHILE v_at < p_rates DO
      SET v_at = v_at + 1;
      SET v_lead = IF(v_count = p_rates,
        CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(v_before, ' ', v_at), ' ', -1) AS SIGNED), v_most);
      SET v_lead = LEAST(v_lead - v_passed,
        v_last + CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(p_terms, ' ', 3 * v_at - 2), ' ', -1) AS SIGNED));
      SET v_leads = CONCAT(v_leads, v_lead, ' ');
    END WHILE;
  END IF;
  SET v_slot = GREATEST(0, v_last), v_at = 0;
  WHILE v_at < p_rates DO
    SET v_at = v_at + 1;
    SET v_slot = GREATEST(v_slot, CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(v_leads, ' ', v_at), ' ', -1) AS SIGNED)
      + CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(p_terms, ' ', 3 * v_at - 1), ' ', -1) AS SIGNED));
  END WHILE;
  -- Where the clock was set back also what was refused is written, or time would stand still until it has caught up.
  IF v_slot <= p_at_most OR v_now < v_seen THEN
    IF v_slot <= p_at_most THEN
      SET v_last = v_slot;
    END IF;
    SET v_after = '', v_at = 0;
    WHILE v_at < p_rates DO
      SET v_at = v_at + 1;
      SET v_lead = CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(v_leads, ' ', v_at), ' ', -1) AS SIGNED);
      IF v_slot <= p_at_most THEN
        SET v_lead = GREATEST(v_lead, v_slot)
          + CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(p_terms, ' ', 3 * v_at), ' ', -1) AS SIGNED);
      END IF;
      SET v_lives = GREATEST(v_lives,
        v_lead + CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(p_terms, ' ', 3 * v_at - 2), ' ', -1) AS SIGNED));
      SET v_after = CONCAT(v_after, v_lead, ' ');
    END WHILE;
    -- By the hour, so that the index over it is not written each time.
    UPDATE {pace_table} SET seen = v_now, last = v_last, leads = v_after,
      sweep_at = ((v_now + v_lives DIV 1000) DIV {HOUR} + 1) * {HOUR}
      WHERE `key` = p_key;
  END IF;
  COMMIT;
  SELECT IF(v_slot <= p_at_most, v_slot, -v_slot), v_now;
END

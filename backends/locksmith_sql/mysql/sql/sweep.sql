-- Forget what nobody used for a day: the next page of names, each in a transaction of its own.
CREATE PROCEDURE {sweep}()
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE v_now, v_at, v_rows, v_seen, v_number, v_micros BIGINT;
  DECLARE v_code INT;
  DECLARE v_done INT DEFAULT 0;
  DECLARE v_from, v_upto, v_key {KEY};
  DECLARE idle CURSOR FOR SELECT `key` FROM {lease}
    WHERE `key` > v_from AND `key` <= v_upto AND seen < v_now - {MEMORY} ORDER BY `key`;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  {BEGIN}
  {START}
  SET v_now = {NOW};
  SELECT sweep_key, sweep_at INTO v_from, v_at FROM {meta} WHERE id = 1 FOR UPDATE;
  IF ABS(v_now - v_at) < {SWEEP_EVERY} THEN
    COMMIT;
  ELSE
    SELECT MAX(page.`key`), COUNT(*) INTO v_upto, v_rows
      FROM (SELECT `key` FROM {lease} WHERE `key` > v_from ORDER BY `key` LIMIT {SWEEP_PAGE}) AS page;
    UPDATE {meta} SET sweep_key = IF(v_rows = {SWEEP_PAGE}, v_upto, ''), sweep_at = v_now WHERE id = 1;
    COMMIT;
    SET v_done = 0;
    OPEN idle;
    names: LOOP
      FETCH idle INTO v_key;
      IF v_done THEN
        LEAVE names;
      END IF;
      {START}
      SELECT seen INTO v_seen FROM {lease} WHERE `key` = v_key FOR UPDATE;
      IF v_seen < v_now - {MEMORY} THEN
        -- Whoever died holding it is expired by the rules.
        CALL {step}('S', v_key, NULL, '', '', 0, 0, 0, 0, 0, 0, '', 0, v_code, v_number, v_micros);
        DELETE FROM {lease}
          WHERE `key` = v_key AND owner IS NULL AND used = 0 AND busy = 0 AND tombs = 0 AND closed = 0;
      END IF;
      COMMIT;
      SET v_done = 0;
    END LOOP;
    CLOSE idle;
    DELETE FROM {cell} WHERE sweep_at < v_now LIMIT 100;
    DELETE FROM {pace_table} WHERE sweep_at < v_now LIMIT 1000;
    DELETE FROM {news} WHERE seen < v_now - {MEMORY} LIMIT 100;
  END IF;
END

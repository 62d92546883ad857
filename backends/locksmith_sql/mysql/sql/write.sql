-- Put a value, or delete with NULL. p_expect: a version, -1 whatever is there, -2 nothing. Comes back: 1 and the new
-- version; 0 nothing to delete; 2 and the version found (NULL: none); 3 the guard is not held.
CREATE PROCEDURE {write}(
  IN p_key {KEY}, IN p_name VARBINARY(1024), IN p_value MEDIUMBLOB, IN p_ttl BIGINT, IN p_expect BIGINT,
  IN g_key {KEY}, IN g_owner {WORD}, IN g_token BIGINT)
MODIFIES SQL DATA SQL SECURITY INVOKER
write_: BEGIN
  DECLARE v_now, v_version, v_number, v_micros BIGINT;
  DECLARE v_code, v_live INT DEFAULT 0;
  {BEGIN}
  {START}
  IF g_key IS NOT NULL THEN
    CALL {step}('G', g_key, NULL, g_owner, '', g_token, 0, 0, 0, 0, 0, '', 0, v_code, v_number, v_micros);
    IF v_code = 0 THEN
      COMMIT;
      SELECT 3, NULL;
      LEAVE write_;
    END IF;
  END IF;
  -- A row to lock: nothing keeps two from finding none.
  INSERT INTO {cell} (`key`, name, version, sweep_at) VALUES (p_key, p_name, 0, {NOW})
    ON DUPLICATE KEY UPDATE `key` = p_key;
  SET v_now = {NOW};
  SELECT version, value IS NOT NULL AND (expires IS NULL OR expires > v_now) INTO v_version, v_live
    FROM {cell} WHERE `key` = p_key FOR UPDATE;
  IF p_expect <> -1 AND p_expect <> IF(v_live, v_version, -2) THEN
    ROLLBACK;
    SELECT 2, IF(v_live, v_version, NULL);
    LEAVE write_;
  END IF;
  IF p_value IS NULL AND NOT v_live THEN
    ROLLBACK;
    SELECT 0, 0;
    LEAVE write_;
  END IF;
  -- A deleted cell leaves its version behind for a day, so that versions grow across deletion.
  SET v_version = GREATEST(v_version + 1, v_now);
  UPDATE {cell} SET value = p_value, version = v_version, expires = v_now + p_ttl,
    sweep_at = IF(p_value IS NULL, v_now, v_now + p_ttl) + {MEMORY} WHERE `key` = p_key;
  COMMIT;
  SELECT 1, v_version;
END

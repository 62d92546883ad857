-- One verb about one name, committed. p_bell: the owner's bell is hung up before its place in line can be seen, and rung
-- by its release. A bell is a lock of GET_LOCK, which belongs to the session; see wait.sql.
CREATE PROCEDURE {one}(
  IN p_verb CHAR(1) CHARACTER SET ascii, IN p_key {KEY}, IN p_name VARBINARY(1024), IN p_owner {WORD},
  IN p_client {WORD}, IN p_number BIGINT, IN p_permits BIGINT, IN p_limit BIGINT, IN p_ttl BIGINT,
  IN p_waiter_ttl BIGINT, IN p_delay BIGINT, IN p_info {INFO}, IN p_flag INT, IN p_bell INT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  DECLARE r_code INT;
  DECLARE r_number, r_micros BIGINT;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    -- Whoever is not in line hangs up no bell: a second try would hang it up a second time, to be rung once.
    IF p_bell AND p_verb = 'A' THEN
      DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END IF;
    RESIGNAL;
  END;
  IF p_bell AND p_verb = 'A' THEN
    {QUIETLY}
    DO GET_LOCK(CONCAT('locksmith:', p_owner), 0);
    END;
  END IF;
  {START}
  CALL {step}(p_verb, p_key, p_name, p_owner, p_client, p_number, p_permits, p_limit, p_ttl, p_waiter_ttl, p_delay,
    p_info, p_flag, r_code, r_number, r_micros);
  -- Whoever wakes up looks at the row, and waits for the commit that is about to come.
  IF p_bell AND p_verb <> 'A' THEN
    {QUIETLY}
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END;
  END IF;
  COMMIT;
  IF p_bell AND p_verb = 'A' AND r_code <> 2 THEN
    {QUIETLY}
    DO RELEASE_LOCK(CONCAT('locksmith:', p_owner));
    END;
  END IF;
  SELECT r_code, r_number, r_micros;
END

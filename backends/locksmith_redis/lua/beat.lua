-- A client's word about many grants and tickets at once.
-- KEYS: state more line held, for each.  ARGV: how many of them are grants; then three words for each:
-- of a grant owner, token, ttl; of a ticket owner, number, waiter_ttl.
-- Reply: for each two numbers. Grant: {1, 0} held, {0, 0} lost. Ticket: {2, token} granted, {1, head_ends} waiting,
-- {0, 0} gone. {-1, text}: this one failed, which says nothing about the others.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
--#include general.lua

local function grant(at, owner, token, ttl)
  local state = redis.call('GET', KEYS[at])
  if not state or string.byte(state) ~= 71 then -- not "G"
    if not state or string.sub(state, 1, 49) ~= string.format('H%016.0f%s', token, owner)
      or tonumber(string.sub(state, 50, 65)) <= now then
      return 0, 0
    end
    -- PEXPIRE first: it is allowed where memory is full, and after a first write a script is not refused any more.
    -- So leases live on in a full server, which renewing does not make any fuller.
    redis.call('PEXPIRE', KEYS[at], math.ceil(ttl / 1000) + 86400000)
    redis.call('SETRANGE', KEYS[at], 49, string.format('%016.0f', now + ttl))
    return 1, 0
  end
  local n = open(at, now)
  arm(n, n.more) -- a first write that is always allowed, as above
  settle(n)
  local record = redis.call('HGET', n.more, 'h' .. owner)
  local held = record and cmsgpack.unpack(record) == token
  if held then
    redis.call('ZADD', n.held, now + ttl, owner)
    reach(n, now + ttl)
  end
  save(n)
  return held and 1 or 0, 0
end

local function ticket(at, owner, number, ttl)
  local state = redis.call('GET', KEYS[at])
  if not state or string.byte(state) ~= 71 then return 0, 0 end
  local n = open(at, now)
  -- Before anything is ended: who is late, but was not passed over yet, keeps its place.
  local waits = tonumber(redis.call('ZSCORE', n.line, owner) or 0) == number
  if waits then hear(n, owner, ttl) end
  settle(n)
  local word, value = 0, 0
  local record = redis.call('HGET', n.more, 'h' .. owner)
  if record then
    local token, ticketed = cmsgpack.unpack(record)
    if ticketed == number then word, value = 2, token end
  elseif waits then
    word, value = 1, head_ends(n, owner)
  end
  save(n)
  return word, value
end

local words = {}
local grants = tonumber(ARGV[1])
for i = 1, #KEYS / 4 do
  local at, arg = 4 * i - 3, 3 * i - 1
  local say = i <= grants and grant or ticket
  local ok, word, value = pcall(say, at, ARGV[arg], tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]))
  if not ok then
    -- Redis 7 raises tables, Redis 6 texts.
    word, value = -1, type(word) == 'table' and word.err or tostring(word)
  end
  words[2 * i - 1], words[2 * i] = word, value
end
return words

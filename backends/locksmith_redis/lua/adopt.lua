-- A majority of servers has granted: write the token they agreed on into this server's grant.
-- KEYS: state more line held.  ARGV: owner, token.  Reply: 1, or 0: not held.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local owner, token = ARGV[1], tonumber(ARGV[2])
local state = redis.call('GET', KEYS[1])
if not state then return 0 end
if string.byte(state) ~= 71 then -- not "G"
  if string.sub(state, 18, 49) ~= owner or tonumber(string.sub(state, 50, 65)) <= now then return 0 end
  redis.call('SETRANGE', KEYS[1], 1, string.format('%016.0f', token))
  return 1
end
--#include general.lua
local n = open(1, now)
settle(n)
local record = redis.call('HGET', n.more, 'h' .. owner)
if record then
  local _, ticket, since, permits, delay, info = cmsgpack.unpack(record)
  redis.call('HSET', n.more, 'h' .. owner, cmsgpack.pack(token, ticket, since, permits, delay, info))
  n.token = math.max(n.token, token)
end
save(n)
return record and 1 or 0

-- Give a grant back, and grant from the head of the line.
-- KEYS: state more line held.  ARGV: token (16 digits) and owner in one.  Reply: 1, or 0: not known.
local state = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if not state or string.byte(state) ~= 71 then -- not "G"
  if not state or string.sub(state, 1, 49) ~= 'H' .. ARGV[1] or tonumber(string.sub(state, 50, 65)) <= now then
    return 0
  end
  -- What is left of its time to live is the rest of the lease and a day.
  -- A server whose memory is full refuses SET. Giving back must work all the same; what is lost with the key, the last
  -- token, is smaller than the server's microseconds anyway.
  if redis.pcall('SET', KEYS[1], 'F' .. string.sub(state, 2, 17), 'KEEPTTL').err then
    redis.call('DEL', KEYS[1])
  end
  return 1
end
--#include general.lua
local n = open(1, now)
local owner = string.sub(ARGV[1], 17)
local record = redis.call('HGET', n.more, 'h' .. owner)
local known = 0
if record and cmsgpack.unpack(record) == tonumber(string.sub(ARGV[1], 1, 16))
  and tonumber(redis.call('ZSCORE', n.held, owner) or 0) > now then
  known = 1
  drop(n, owner)
end
settle(n)
save(n)
return known

-- Keep a held name from being granted to anybody for a moment, while its holder writes a cell in another slot.
-- KEYS: state more line held.  ARGV: token (16 digits) and owner in one, microseconds.
-- Reply: {the moment until when nobody gets it, the one before}, for unpin; nil: not held.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
--#include general.lua
local n = open(1, now)
settle(n)
local owner = string.sub(ARGV[1], 17)
local record = redis.call('HGET', n.more, 'h' .. owner)
if not record or cmsgpack.unpack(record) ~= tonumber(string.sub(ARGV[1], 1, 16)) then
  save(n)
  return false
end
local before = n.closed
n.closed = math.max(n.closed, now + ARGV[2])
save(n)
return { n.closed, before }

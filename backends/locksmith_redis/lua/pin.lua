-- Keep a held name from being granted to anybody for a moment, while its holder writes a cell in another slot.
-- KEYS: state more line held.  ARGV: token (16 digits) and owner in one, microseconds.
-- Reply: the moment until when nobody gets it, for unpin; nil: not held.
-- In `more`, "p" has all that are under way: {closed before the first, closed as the last one left it, their moments}.
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
local known = redis.call('HGET', n.more, 'p')
local before, left, pins = n.closed, n.closed, {}
if known then before, left, pins = cmsgpack.unpack(known) end
if n.closed ~= left then before = n.closed end -- a loss has closed it for longer
local mine = now + ARGV[2]
local live = { mine }
for _, pin in ipairs(pins) do
  if pin > now then live[#live + 1] = pin end
end
n.closed = math.max(n.closed, mine)
redis.call('HSET', n.more, 'p', cmsgpack.pack(before, n.closed, live))
save(n)
return mine

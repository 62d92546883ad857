-- The cell is written: take back what pin did, unless somebody has closed the name for longer meanwhile.
-- KEYS: state more line held.  ARGV: what pin replied.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
--#include general.lua
local n = open(1, now)
if n.closed == tonumber(ARGV[1]) then n.closed = tonumber(ARGV[2]) end
settle(n)
save(n)
return 1

-- Delete a cell.
-- KEYS: as of put.lua.  ARGV: what is expected, guard, the moment after which this comes too late.
-- Reply: 1; 0: there was none; else as put.lua.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[3] ~= '' and now >= tonumber(ARGV[3]) then return { -3 } end
local found = tonumber(redis.call('GETRANGE', KEYS[1], 0, 15)) or 0
--#include guard.lua
if ARGV[2] ~= '' and not held(ARGV[2], now) then return { -1 } end
if ARGV[1] ~= '*' and found ~= (tonumber(ARGV[1]) or 0) then return { -2, found } end
return redis.call('DEL', KEYS[1])

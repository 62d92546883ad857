-- Take several exclusive names, or none of them; no place in line.
-- KEYS: state more line held, for each.  ARGV: for each owner, ttl, milliseconds until the key may go, rest (see terms).
-- Reply: {0, token, ...}; nil: refused; {-1, limit, place}: the name at this place is in use with another limit.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
--#include general.lua
--#include enter.lua

-- As acquire.lua: one string read and one written where nobody is in line and nothing has to be thought about.
local function take(at, owner, ttl, kept, rest)
  local state = redis.call('GET', KEYS[at])
  local form = state and string.byte(state)
  local token
  if not state then
    token = now
  elseif form == 70 then -- "F"
    token = math.max(tonumber(string.sub(state, 2, 17)) + 1, now)
  elseif form == 72 then -- "H"
    if tonumber(string.sub(state, 50, 65)) > now then
      if string.sub(state, 18, 49) ~= owner then return false end
      token = tonumber(string.sub(state, 2, 17)) -- its reply was lost: the same grant, armed anew
    elseif string.byte(state, 66) == 76 then -- "L": it has ended, and leaves no lock_delay
      token = math.max(tonumber(string.sub(state, 2, 17)) + 1, now)
    end
  end
  if not token then return enter(at, owner, ttl, rest, '', now) end
  redis.call('PSETEX', KEYS[at], kept, string.format('H%016.0f%s%016.0f%s', token, owner, now + ttl, rest))
  return token
end

-- As abandon.lua without a tombstone.
local function undo(at, owner)
  local state = redis.call('GET', KEYS[at])
  if not state then return end
  if string.byte(state) ~= 71 then -- not "G"
    if string.sub(state, 18, 49) == owner and tonumber(string.sub(state, 50, 65)) > now then
      if redis.pcall('SET', KEYS[at], 'F' .. string.sub(state, 2, 17), 'KEEPTTL').err then
        redis.call('DEL', KEYS[at])
      end
    end
    return
  end
  local n = open(at, now)
  settle(n)
  drop(n, owner)
  quit(n, owner)
  settle(n)
  save(n)
end

local granted = { 0 }
for i = 1, #KEYS / 4 do
  local arg = 4 * i - 3
  local reply = take(arg, ARGV[arg], tonumber(ARGV[arg + 1]), ARGV[arg + 2], ARGV[arg + 3])
  if type(reply) ~= 'number' then
    for at = 1, #KEYS, 4 do undo(at, ARGV[at]) end
    if reply and reply[1] == -1 then return { -1, reply[2], i } end
    return false
  end
  granted[i + 1] = reply
end
return granted

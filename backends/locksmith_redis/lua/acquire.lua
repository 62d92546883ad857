-- Take permits, or a place in line.
-- KEYS: state more line held.  ARGV: owner, ttl, milliseconds until the key may go, rest (see terms), and for a place in
-- line: waiter_ttl " " channel.
-- Reply: a token; nil: refused; {number, head_ends}: a place in line; {-1, limit}: in use with another limit;
-- {-2, 0}: refused for good, because the owner has a tombstone.
--
-- First the case that matters: a free exclusive lock, one string read and one written, before any function is made.
local state = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kind = string.byte(ARGV[4])
if kind ~= 83 then -- not "S": one permit of one
  local token
  if not state then
    token = now
  else
    local form = string.byte(state)
    if form == 70 then -- "F"
      token = math.max(tonumber(string.sub(state, 2, 17)) + 1, now)
    elseif form == 72 then -- "H"
      if tonumber(string.sub(state, 50, 65)) > now then
        if string.sub(state, 18, 49) == ARGV[1] then
          token = tonumber(string.sub(state, 2, 17)) -- its reply was lost: the same grant, armed anew
        elseif ARGV[5] == '' then
          return false
        end
      elseif string.byte(state, 66) == 76 then -- "L": it has ended, and leaves no lock_delay
        token = math.max(tonumber(string.sub(state, 2, 17)) + 1, now)
      end
    end
  end
  if token then
    local ends = now + ARGV[2]
    local written
    if token == now then
      -- printing a double of 16 digits costs as much as the write; two halves are printed as integers
      local seconds = math.floor(ends / 1000000)
      written = string.format('H%s%06d%s%d%06d%s', time[1], time[2], ARGV[1], seconds, ends - seconds * 1000000, ARGV[4])
    else
      written = string.format('H%016.0f%s%016.0f%s', token, ARGV[1], ends, ARGV[4])
    end
    redis.call('PSETEX', KEYS[1], ARGV[3], written)
    return token
  end
elseif state and string.byte(state) == 72 and tonumber(string.sub(state, 50, 65)) > now then
  return { -1, 1 }
end
--#include general.lua
--#include enter.lua
return enter(1, ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[5], now)

-- The general form of a name, included by the slow path of every verb. Four keys, all in one slot:
--   state  a string. "F" token: free. "H" token owner expires rest: one exclusive holder, nobody in line.
--          "G": look at the other three.
--   more   a hash. "m": the numbers of the name; "h" owner: a holder; "w" owner: a waiter;
--          "p": see pin.lua. Each packed by cmsgpack.
--   line   a sorted set. Owner -> ticket number (positive), or -> minus the end of its tombstone (negative): one look-up
--          tells whether an owner waits or is refused, and one range ends all tombstones that are due.
--   held   a sorted set. Owner -> when its lease ends.
-- All times are microseconds of this server's clock. They stay below 2^53 until the year 2255, so Lua's doubles hold
-- them exactly; what is written into strings goes through %.0f, because Lua's own format rounds at 14 digits.
local DAY, HOUR = 86400000000, 3600000000

local function drop(n, owner, ended)
  local record = redis.call('HGET', n.more, 'h' .. owner)
  redis.call('ZREM', n.held, owner)
  if not record then return end
  redis.call('HDEL', n.more, 'h' .. owner)
  local _, _, _, permits, delay = cmsgpack.unpack(record)
  n.used = n.used - permits
  if ended and delay > 0 then n.closed = math.max(n.closed, ended + delay) end
end

-- Keys live on for a day after all that they know has ended: the token must outlive its last use by that much. An hour
-- more than needed is asked for, so that it need not be asked for by every operation.
local function reach(n, moment)
  if moment + DAY > n.kept then
    n.kept = moment + DAY + HOUR
    n.rearm = true
  end
end

local function arm(n, key)
  redis.call('PEXPIRE', key, math.ceil((n.kept - n.now) / 1000))
end

local function hold(n, owner, ends, ticket, permits, delay, info)
  n.token = math.max(n.token + 1, n.now)
  redis.call('ZADD', n.held, ends, owner)
  redis.call('HSET', n.more, 'h' .. owner, cmsgpack.pack(n.token, ticket, n.now, permits, delay, info))
  reach(n, ends)
  if n.used == 0 then arm(n, n.held) end -- the key is new
  n.used = n.used + permits
  return n.token
end

-- What an acquire says besides owner and ttl: kind, permits, limit, lock_delay, and the name where its key is a hash.
local function terms(rest)
  local permits, limit, delay, size, tail = string.match(rest, '^.(%d+) (%d+) (%d+) (%d+) (.*)$')
  size = tonumber(size)
  return tonumber(permits), tonumber(limit), tonumber(delay), string.sub(tail, 1, size), string.sub(tail, size + 1)
end

-- Read a name into a table, turning it into the general form. `at` is the index of its first key in KEYS.
local function open(at, now)
  local n = { state = KEYS[at], more = KEYS[at + 1], line = KEYS[at + 2], held = KEYS[at + 3], now = now }
  local state = redis.call('GET', n.state)
  local form = state and string.sub(state, 1, 1)
  local numbers = form == 'G' and redis.call('HGET', n.more, 'm')
  if numbers then
    n.limit, n.used, n.token, n.seq, n.closed, n.dead, n.kept, n.name = cmsgpack.unpack(numbers)
    return n
  end
  -- Whatever the other keys hold is left over from a state that somebody deleted or the server evicted.
  redis.call('DEL', n.more, n.line, n.held)
  n.limit, n.used, n.token, n.seq, n.closed, n.dead, n.kept, n.name = 1, 0, 0, 0, 0, 0, 0, ''
  if form == 'F' or form == 'H' then n.token = tonumber(string.sub(state, 2, 17)) end
  if form == 'H' then
    local ends = tonumber(string.sub(state, 50, 65))
    local _, _, delay, name, info = terms(string.sub(state, 66))
    n.name = name
    if ends > now then
      local owner = string.sub(state, 18, 49)
      redis.call('ZADD', n.held, ends, owner)
      redis.call('HSET', n.more, 'h' .. owner, cmsgpack.pack(n.token, 0, n.token, 1, delay, info))
      n.used = 1
      reach(n, ends)
    elseif delay > 0 then
      n.closed = ends + delay
    end
  end
  n.rearm = true
  return n
end

-- Rule 5: end what is due, then grant from the head of the line, and tell each waiter's client on its own channel.
-- Silent waiters are passed over when they reach the head, each once; so the cost does not grow with the line.
local function settle(n)
  if n.dead > 0 then
    redis.call('ZREMRANGEBYSCORE', n.line, -n.now, '(0')
    if n.dead <= n.now then n.dead = 0 end
  end
  if n.used > 0 then
    local first = redis.call('ZRANGE', n.held, 0, 0, 'WITHSCORES')[2]
    if not first then
      -- Somebody deleted the key, or the server evicted it. Nobody knows when these holders end: they have ended.
      for _, field in ipairs(redis.call('HKEYS', n.more)) do
        if string.byte(field) == 104 then redis.call('HDEL', n.more, field) end -- "h"
      end
      n.used = 0
    elseif tonumber(first) <= n.now then
      local due = redis.call('ZRANGEBYSCORE', n.held, '-inf', n.now, 'WITHSCORES')
      for i = 1, #due, 2 do drop(n, due[i], tonumber(due[i + 1])) end
    end
  end
  while true do
    local head = redis.call('ZRANGEBYSCORE', n.line, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local owner = head[1]
    n.head = owner
    if not owner then return end
    local record = redis.call('HGET', n.more, 'w' .. owner)
    local ends, permits, delay, ttl, channel, info = 0, 0, 0, 0, '', ''
    if record then ends, permits, delay, ttl, channel, info = cmsgpack.unpack(record) end
    local silent = ends <= n.now
    if not silent and (n.closed > n.now or n.used + permits > n.limit) then return end
    redis.call('ZREM', n.line, owner)
    redis.call('HDEL', n.more, 'w' .. owner)
    if not silent then
      -- Unconfirmed: for no longer than a silent waiter is kept, because it may be gone.
      local token = hold(n, owner, n.now + ttl, tonumber(head[2]), permits, delay, info)
      local news = string.format('%s %s %.0f', owner, head[2], token)
      if string.find(channel, '{', 1, true) then
        redis.pcall('SPUBLISH', channel, news) -- refused where its slot has moved; the waiter's own beat finds out then
      else
        redis.call('PUBLISH', channel, news)
      end
    end
  end
end

-- Write the name back; as a plain string again once there is nothing else to know of it.
local function save(n)
  if n.used <= 0 and not n.head and n.dead == 0 and n.closed <= n.now then
    redis.call('DEL', n.more, n.line, n.held)
    if n.token > 0 then
      redis.call('SET', n.state, string.format('F%016.0f', n.token), 'PX', DAY / 1000)
    else
      redis.call('DEL', n.state)
    end
    return
  end
  reach(n, math.max(n.now, n.closed, n.dead))
  redis.call('HSET', n.more, 'm', cmsgpack.pack(n.limit, n.used, n.token, n.seq, n.closed, n.dead, n.kept, n.name))
  if n.rearm then
    redis.call('SET', n.state, 'G', 'PX', math.ceil((n.kept - n.now) / 1000))
    arm(n, n.more)
    arm(n, n.line)
    arm(n, n.held)
  end
end

-- Microseconds until there will be something to end for the head of the line; -1 for everybody else.
local function head_ends(n, owner)
  if n.head ~= owner then return -1 end
  local _, permits = cmsgpack.unpack(redis.call('HGET', n.more, 'w' .. owner))
  local free = n.now -- unless a holder, and not only a lock_delay, is in the way
  if n.used + permits > n.limit then free = tonumber(redis.call('ZRANGE', n.held, 0, 0, 'WITHSCORES')[2]) end
  return math.max(n.closed, free, n.now) - n.now
end

-- A waiter was heard of.
local function hear(n, owner, ttl)
  local record = redis.call('HGET', n.more, 'w' .. owner)
  if not record then return end
  local _, permits, delay, _, channel, info = cmsgpack.unpack(record)
  redis.call('HSET', n.more, 'w' .. owner, cmsgpack.pack(n.now + ttl, permits, delay, ttl, channel, info))
  reach(n, n.now + ttl)
end

-- Give up a place in line. A tombstone, which lies in the same set, stays.
local function quit(n, owner)
  local place = redis.call('ZSCORE', n.line, owner)
  if place and string.byte(place) ~= 45 then redis.call('ZREM', n.line, owner) end -- "-"
  redis.call('HDEL', n.more, 'w' .. owner)
end

local function bury(n, owner, ends)
  redis.call('ZADD', n.line, -ends, owner)
  n.dead = math.max(n.dead, ends)
  reach(n, ends)
  arm(n, n.line)
end

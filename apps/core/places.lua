-- What queue.lua and holds.lua share: concurrency keys, and how an item gets into its lane. Put before either script.
--
--   <p>:queue:<org>:<lane>   ZSET   member "<sequence, 16 hex>:<task key>", score: see `score`
--   <p>:lanes:<org>          SET    lanes of the org that hold something
--   <p>:orgs                 ZSET   orgs that have a lane, score: when a dispatcher last looked at it, ms
--   <p>:slopes               HASH   org -> points per minute by which its scores age; not there: 0
--   <p>:wake                 LIST   tokens that wake waiting dispatchers; never longer than a few
--   <p>:keyed:<org>          HASH   ticket -> JSON [key, limit, mode], of every keyed item that the queue knows
--   <p>:key:<org>:<key>      HASH   member -> claims and holds it has: who has a place of the key
--   <p>:parked:<org>:<key>   ZSET   ticket, score as in a lane: who waits for a place
--   <p>:parking:<org>        ZSET   key, score: how many wait for it
--   <p>:aside                HASH   org -> how many are parked
--   <p>:contests             ZSET   ticket that came while its key was full, mode cancel_*; score: when to look at it, ms
--   <p>:contested:<org>      HASH   ticket -> priority
--
-- A ticket is the JSON array [org, lane, member]. KEYS[1] is the prefix.

local p = KEYS[1]
local queue = function(org, lane) return p .. ':queue:' .. org .. ':' .. lane end
local function ticket_of(org, lane, member) return cjson.encode({ org, lane, member }) end

local slopes = {}
local function slope_of(org)
  if not slopes[org] then slopes[org] = tonumber(redis.call('HGET', p .. ':slopes', org) or 0) end
  return slopes[org]
end

-- Arrival in minutes since the epoch, from the member.
local function minutes(member) return tonumber(string.sub(member, 1, 16), 16) / 6e7 end

-- The smallest goes first. Without aging: -priority, equals by arrival (the member). With aging an item's worth at time t is
-- priority + slope * (t - arrival); between two items t falls out of the comparison, so arrival * slope - priority orders
-- them the same at every moment and nothing has to be scored again as time passes.
local function score(org, priority, member)
  local slope = slope_of(org)
  if slope == 0 then return 0 - priority end
  return minutes(member) * slope - priority
end

local function priority_of(org, score_, member) return math.floor(minutes(member) * slope_of(org) - score_ + 0.5) end

local function wake(tokens)
  for _ = 1, tokens do redis.call('LPUSH', p .. ':wake', 1) end
  redis.call('LTRIM', p .. ':wake', 0, 7)
end

local function into_lane(org, lane, priority, member)
  redis.call('ZADD', queue(org, lane), score(org, priority, member), member)
  redis.call('SADD', p .. ':lanes:' .. org, lane)
  redis.call('ZADD', p .. ':orgs', 'NX', 0, org)
end

local function forget_if_empty(org, lane)
  if redis.call('EXISTS', queue(org, lane)) == 0 then
    redis.call('SREM', p .. ':lanes:' .. org, lane)
    if redis.call('EXISTS', p .. ':lanes:' .. org) == 0 then
      redis.call('ZREM', p .. ':orgs', org)
      if redis.call('EXISTS', p .. ':orgs') == 0 then redis.call('DEL', p .. ':turns') end
    end
  end
end

-- Concurrency keys

local function has_place(org, key, member) return redis.call('HEXISTS', p .. ':key:' .. org .. ':' .. key, member) == 1 end
local function is_full(org, key, limit) return redis.call('HLEN', p .. ':key:' .. org .. ':' .. key) >= limit end
local function occupy(org, key, member) redis.call('HINCRBY', p .. ':key:' .. org .. ':' .. key, member, 1) end

local function leave_parked(org, key, ticket)
  if redis.call('ZREM', p .. ':parked:' .. org .. ':' .. key, ticket) == 0 then return 0 end
  if tonumber(redis.call('ZINCRBY', p .. ':parking:' .. org, -1, key)) <= 0 then redis.call('ZREM', p .. ':parking:' .. org, key) end
  if redis.call('HINCRBY', p .. ':aside', org, -1) <= 0 then redis.call('HDEL', p .. ':aside', org) end
  return 1
end

-- A place may have become free: the best of those parked goes to its lane.
local function unpark(org, key)
  local head = redis.call('ZRANGE', p .. ':parked:' .. org .. ':' .. key, 0, 0, 'WITHSCORES')
  if #head == 0 then return end
  local keyed = redis.call('HGET', p .. ':keyed:' .. org, head[1])
  if keyed and is_full(org, key, cjson.decode(keyed)[2]) then return end
  local t = cjson.decode(head[1])
  leave_parked(org, key, head[1])
  into_lane(org, t[2], priority_of(org, tonumber(head[2]), t[3]), t[3])
  wake(1)
end

local function vacate(org, key, member)
  local name = p .. ':key:' .. org .. ':' .. key
  if redis.call('HINCRBY', name, member, -1) > 0 then return end
  redis.call('HDEL', name, member)
  unpark(org, key)
end

-- The key is full: wait for a place without costing anything, or let a dispatcher decide who is cancelled.
local function set_aside(org, ticket, priority, member, keyed)
  local key, mode = keyed[1], keyed[3]
  if mode == 'queue' then
    local new = redis.call('ZADD', p .. ':parked:' .. org .. ':' .. key, score(org, priority, member), ticket)
    if new == 1 then
      redis.call('ZINCRBY', p .. ':parking:' .. org, 1, key)
      redis.call('HINCRBY', p .. ':aside', org, 1)
    end
  else
    redis.call('ZADD', p .. ':contests', 'NX', 0, ticket)
    redis.call('HSET', p .. ':contested:' .. org, ticket, priority)
  end
end

-- To its lane, or aside when its key is full.
local function put(org, lane, priority, member, ticket, keyed)
  if keyed and not has_place(org, keyed[1], member) and is_full(org, keyed[1], keyed[2]) then
    set_aside(org, ticket, priority, member, keyed)
  else
    into_lane(org, lane, priority, member)
  end
end

local function keyed_of(org, ticket)
  local found = redis.call('HGET', p .. ':keyed:' .. org, ticket)
  return found and cjson.decode(found)
end

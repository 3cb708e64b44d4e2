-- The task queue. Redis is the order; every key here can be rebuilt from the database. Follows places.lua.
--
--   <p>:delayed              ZSET   ticket, score: due, ms
--   <p>:later:<org>          HASH   ticket -> priority, of the delayed
--   <p>:claims               ZSET   ticket, score: when the claim lapses, ms
--   <p>:claimed:<org>        HASH   ticket -> priority, of the claimed
--   <p>:held                 HASH   org -> tasks that agents hold (holds.lua)
--   <p>:turns                HASH   org -> virtual time up to which it was served; "" -> of the last one served
--   <p>:active               ZSET   orgs served lately, score: when, ms; expires
--   <p>:served:<org>:<minute>  HASH   lane -> dispatched in that minute; expires
--   <p>:loader               HASH   server: the run id of the server that was last compared with the database (loader.py)
--   <p>:drains               ZSET   drain id, score: alive until, ms
--   <p>:busy                 ZSET   drain id with a batch of an org that has more than its share, score: since, ms; expires
--   <p>:crowd                ZSET   such an org, score: when a drain last claimed while it had, ms; expires
--
-- ARGV[1] names the verb.

local verb = ARGV[1]
local CONTEST_MS, ACTIVE_MS, PARKS_AT_ONCE, BUSY_MS = 15000, 10000, 1000, 1000

-- The number of drains alive; the caller sends a message when there are too few.
local function alive(now)
  redis.call('ZREMRANGEBYSCORE', p .. ':drains', '-inf', now)
  return redis.call('ZCARD', p .. ':drains')
end

-- Whether nobody need be woken: what waits (of this org; without one, all of it) is a crowd's, and no more dispatchers may be at
-- crowds' batches than are. They look again when those are done; the one that is kept free would find nothing it may take.
local function is_seen_to(now, org)
  redis.call('ZREMRANGEBYSCORE', p .. ':busy', '-inf', now - BUSY_MS)
  local busy = redis.call('ZCARD', p .. ':busy')
  if busy == 0 or busy < alive(now) - 1 then return false end
  if org then return tonumber(redis.call('ZSCORE', p .. ':crowd', org) or 0) > now - BUSY_MS end
  local crowds = redis.call('ZRANGEBYSCORE', p .. ':crowd', now - BUSY_MS, '+inf')
  local there = #crowds > 0 and redis.call('ZMSCORE', p .. ':orgs', unpack(crowds)) or {}
  local theirs = 0
  for i = 1, #crowds do theirs = theirs + (there[i] and 1 or 0) end
  return theirs == redis.call('ZCARD', p .. ':orgs') and redis.call('EXISTS', p .. ':contests') == 0
end

local function has_work() return redis.call('EXISTS', p .. ':orgs', p .. ':contests') > 0 and 1 or 0 end

-- In flight: claimed, or held by an agent. A task between the two counts twice for a moment, never not at all.
local function in_flight(org)
  return tonumber(redis.call('HGET', p .. ':held', org) or 0) + redis.call('HLEN', p .. ':claimed:' .. org)
end

-- Whether the holds in Redis are those of the database: not after Redis was emptied, until the loader has been here.
local rebuilt_
local function rebuilt()
  if rebuilt_ == nil then
    local server = redis.call('HGET', p .. ':loader', 'server')
    rebuilt_ = server and string.find(redis.call('INFO', 'server'), 'run_id:' .. server, 1, true) ~= nil
  end
  return rebuilt_
end

-- End a claim: its priority, or nil when it is no claim (any more). What it occupied is free.
local function unclaim(org, ticket, member)
  if redis.call('ZREM', p .. ':claims', ticket) == 0 then return nil end
  local priority = tonumber(redis.call('HGET', p .. ':claimed:' .. org, ticket) or 0)
  redis.call('HDEL', p .. ':claimed:' .. org, ticket)
  local keyed = keyed_of(org, ticket)
  if keyed then vacate(org, keyed[1], member) end
  return priority, keyed
end

-- What was known of the item's key, unless it is waiting (again) somewhere.
local function forget_key(org, lane, member, ticket)
  local keyed = keyed_of(org, ticket)
  if keyed and not redis.call('ZSCORE', queue(org, lane), member)
    and not redis.call('ZSCORE', p .. ':delayed', ticket)
    and not redis.call('ZSCORE', p .. ':contests', ticket)
    and not redis.call('ZSCORE', p .. ':parked:' .. org .. ':' .. keyed[1], ticket) then
    redis.call('HDEL', p .. ':keyed:' .. org, ticket)
  end
end

-- push now_ms org, then per item: lane priority member not_before_ms keyed  ->  drains alive
-- `keyed` is "" or JSON [key, limit, mode].
if verb == 'push' then
  local now, org = tonumber(ARGV[2]), ARGV[3]
  for i = 4, #ARGV, 5 do
    local lane, priority, member, due, raw = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
    local ticket = ticket_of(org, lane, member)
    if raw ~= '' then redis.call('HSET', p .. ':keyed:' .. org, ticket, raw) end
    if due > now then
      redis.call('ZADD', p .. ':delayed', due, ticket)
      redis.call('HSET', p .. ':later:' .. org, ticket, priority)
    else
      if redis.call('ZREM', p .. ':delayed', ticket) == 1 then redis.call('HDEL', p .. ':later:' .. org, ticket) end
      put(org, lane, priority, member, ticket, raw ~= '' and cjson.decode(raw))
    end
  end
  if not is_seen_to(now, org) then wake(1) end
  return alive(now)
end

-- Due items and lapsed claims return to their queues  ->  number moved
local function tick(now, limit)
  local moved = 0
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', p .. ':delayed', '-inf', now, 'LIMIT', 0, limit)) do
    local t = cjson.decode(ticket)
    local priority = tonumber(redis.call('HGET', p .. ':later:' .. t[1], ticket) or 0)
    redis.call('ZREM', p .. ':delayed', ticket)
    redis.call('HDEL', p .. ':later:' .. t[1], ticket)
    put(t[1], t[2], priority, t[3], ticket, keyed_of(t[1], ticket))
    moved = moved + 1
  end
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', p .. ':claims', '-inf', now, 'LIMIT', 0, limit)) do
    local t = cjson.decode(ticket)
    local priority, keyed = unclaim(t[1], ticket, t[3])
    put(t[1], t[2], priority, t[3], ticket, keyed)
    moved = moved + 1
  end
  if moved > 0 then wake(1) end
  return moved
end

-- tick now_ms limit  ->  number moved
if verb == 'tick' then return tick(tonumber(ARGV[2]), tonumber(ARGV[3])) end

local function lanes_of(org)
  local found = {}
  for _, lane in ipairs(redis.call('SMEMBERS', p .. ':lanes:' .. org)) do
    local size = redis.call('ZCARD', queue(org, lane))
    if size > 0 then
      found[#found + 1] = lane
      found[#found + 1] = size
    end
  end
  return found
end

-- lanes  ->  per org: {org, {lane size …}}
if verb == 'lanes' then
  local found = {}
  for _, org in ipairs(redis.call('ZRANGE', p .. ':orgs', 0, -1)) do found[#found + 1] = { org, lanes_of(org) } end
  return found
end

-- look now_ms tick_limit orgs contests drain until_ms
--   ->  {drains alive, orgs served lately, per org {org, slope, in flight, {lane size …}},
--        per contest {ticket, key, limit, mode, {member …}}}
-- What a dispatcher needs to know before it claims. Of many orgs those that nobody looked at for longest. The drain, unless '',
-- has no batch now, and is alive for a while.
if verb == 'look' then
  local now = tonumber(ARGV[2])
  redis.call('DEL', p .. ':wake') -- who looks sees all that was told of until now
  if ARGV[6] ~= '' then
    redis.call('ZADD', p .. ':drains', ARGV[7], ARGV[6])
    redis.call('ZREM', p .. ':busy', ARGV[6])
  end
  tick(now, ARGV[3])
  local contests = {}
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', p .. ':contests', '-inf', now, 'LIMIT', 0, ARGV[5])) do
    local t = cjson.decode(ticket)
    local org, keyed = t[1], keyed_of(t[1], ticket)
    if keyed and is_full(org, keyed[1], keyed[2]) then
      -- Whoever decides may die over it; then another does.
      redis.call('ZADD', p .. ':contests', now + CONTEST_MS, ticket)
      local there = redis.call('HKEYS', p .. ':key:' .. org .. ':' .. keyed[1])
      contests[#contests + 1] = { ticket, keyed[1], keyed[2], keyed[3], there }
    else
      local priority = tonumber(redis.call('HGET', p .. ':contested:' .. org, ticket) or 0)
      redis.call('ZREM', p .. ':contests', ticket)
      redis.call('HDEL', p .. ':contested:' .. org, ticket)
      put(org, t[2], priority, t[3], ticket, keyed)
    end
  end
  local found = {}
  for _, org in ipairs(redis.call('ZRANGE', p .. ':orgs', 0, ARGV[4] - 1)) do
    redis.call('ZADD', p .. ':orgs', now, org)
    found[#found + 1] = { org, redis.call('HGET', p .. ':slopes', org) or '0', in_flight(org), lanes_of(org) }
  end
  redis.call('ZREMRANGEBYSCORE', p .. ':active', '-inf', now - ACTIVE_MS)
  return { alive(now), redis.call('ZCARD', p .. ':active'), found, contests }
end

-- How many each org may take of `limit`: start-time fair queueing. Each task served moves its org's virtual time on by
-- 1/weight; the org that is furthest behind goes next. An org that had nothing waiting gets no credit for that time.
local function shares(orgs, limit)
  local virtual = 0
  local known = redis.call('HGETALL', p .. ':turns')
  local at = {}
  for i = 1, #known, 2 do at[known[i]] = tonumber(known[i + 1]) end
  virtual = at[''] or 0
  for _, o in ipairs(orgs) do
    o.start, o.share = math.max(at[o.org] or 0, virtual), 0
  end
  if #orgs == 1 then
    orgs[1].share = math.min(limit, orgs[1].wants)
  else
    for _ = 1, limit do
      local best
      for _, o in ipairs(orgs) do
        if o.share < o.wants then
          local tag = o.start + o.share / o.weight
          if not best or tag < best.tag or (tag == best.tag and o.org < best.org) then best = { tag = tag, org = o.org, o = o } end
        end
      end
      if not best then break end
      best.o.share = best.o.share + 1
    end
  end
  return at, virtual
end

-- After a claim: every org's virtual time, and the global one; who is not ahead of it need not be remembered.
local function remember_turns(orgs, at, virtual)
  for _, o in ipairs(orgs) do
    if o.taken > 0 then
      at[o.org] = o.start + o.taken / o.weight
      virtual = math.max(virtual, o.start + (o.taken - 1) / o.weight)
    end
  end
  local ahead = { '', tostring(virtual) }
  for org, time in pairs(at) do
    if org ~= '' then
      if time > virtual then
        ahead[#ahead + 1] = org
        ahead[#ahead + 1] = string.format('%.17g', time)
      else
        redis.call('HDEL', p .. ':turns', org)
      end
    end
  end
  ahead[2] = string.format('%.17g', virtual)
  redis.call('HSET', p .. ':turns', unpack(ahead))
end

-- Take the best of the org's lanes, at most o.share, at most each lane's capacity. What finds its key full is set aside and
-- does not count. Answers whether more may be there than could be looked at.
local function take(o, until_ms, tickets)
  local org, left, parks, has_keys = o.org, o.share, 0, redis.call('EXISTS', p .. ':keyed:' .. o.org) == 1
  local touched, again = {}, true
  while left > 0 and again do
    again = false
    local heads, unseen = {}, {}
    for lane, capacity in pairs(o.lanes) do
      local asked = math.min(capacity, left)
      local found = asked > 0 and redis.call('ZRANGE', queue(org, lane), 0, asked - 1, 'WITHSCORES') or {}
      for j = 1, #found, 2 do
        heads[#heads + 1] = { lane = lane, member = found[j], score = tonumber(found[j + 1]) }
      end
      unseen[lane] = #found == 2 * asked and asked or nil -- heads to go until one comes that was not read
    end
    table.sort(heads, function(a, b)
      if a.score ~= b.score then return a.score < b.score end
      return a.member < b.member
    end)
    for _, head in ipairs(heads) do
      local lane, member = head.lane, head.member
      if left == 0 then break end
      if o.lanes[lane] > 0 then
        local ticket, priority = ticket_of(org, lane, member), priority_of(org, head.score, member)
        local keyed = has_keys and keyed_of(org, ticket)
        if keyed and not rebuilt() then
          o.lanes[lane] = 0 -- who has a place of the key is not known yet
        elseif keyed and not has_place(org, keyed[1], member) and is_full(org, keyed[1], keyed[2]) then
          redis.call('ZREM', queue(org, lane), member)
          set_aside(org, ticket, priority, member, keyed)
          parks = parks + 1
        else
          redis.call('ZREM', queue(org, lane), member)
          local new = redis.call('ZADD', p .. ':claims', until_ms, ticket)
          redis.call('HSET', p .. ':claimed:' .. org, ticket, priority)
          if keyed and new == 1 then occupy(org, keyed[1], member) end
          tickets[#tickets + 1] = ticket
          tickets[#tickets + 1] = keyed and 1 or 0
          left, o.lanes[lane] = left - 1, o.lanes[lane] - 1
        end
        touched[lane] = true
        if parks >= PARKS_AT_ONCE then break end
        if unseen[lane] then unseen[lane] = unseen[lane] - 1 end
        if unseen[lane] == 0 and left > 0 and o.lanes[lane] > 0 then
          again = true -- some were set aside: what is behind them in this lane may go before the heads of the others
          break
        end
      end
    end
  end
  for lane, _ in pairs(touched) do forget_if_empty(org, lane) end
  o.taken = o.share - left
  return parks >= PARKS_AT_ONCE
end

-- Orgs with more work than their share of a batch may not have all dispatchers busy at once while there are others: one stays
-- free, so that a task of those who keep to their share is looked at when it comes, and not when a batch of theirs has ended.
-- And their tasks do not travel with those of the others, whose few are dealt with in a fraction of the time: `few_first`, or not.
-- Answers the orgs that have more than their share.
local function keep_apart(orgs, drain, now, limit, few_first)
  local drains, weights, others, flooding = alive(now), 0, 0, {}
  redis.call('ZREMRANGEBYSCORE', p .. ':active', '-inf', now - ACTIVE_MS)
  others = redis.call('ZCARD', p .. ':active')
  for _, o in ipairs(orgs) do
    weights = weights + o.weight
    if redis.call('ZSCORE', p .. ':active', o.org) then others = others - 1 end
  end
  for _, o in ipairs(orgs) do
    if o.wants > limit * o.weight / (weights + others) then flooding[#flooding + 1] = o end
  end
  if #flooding == #orgs + others then return {} end
  -- A batch that takes long (its dispatcher died, or asks around) holds nobody up for longer than this.
  redis.call('ZREMRANGEBYSCORE', p .. ':busy', '-inf', now - BUSY_MS)
  -- Who is alone may have any batch, and is busy with it when a second one comes.
  if drains > 1 and redis.call('ZCARD', p .. ':busy') - (redis.call('ZSCORE', p .. ':busy', drain) and 1 or 0) >= drains - 1 then
    for _, o in ipairs(flooding) do o.wants, o.asked = 0, 0 end
  end
  local few, crowd = {}, 0
  for _, o in ipairs(orgs) do few[o] = true end
  for _, o in ipairs(flooding) do few[o], crowd = nil, crowd + o.wants end
  if drain ~= '' and crowd > 0 and next(few) then
    for _, o in ipairs(orgs) do
      if few_first ~= (few[o] or false) then o.wants = 0 end
    end
  end
  return flooding
end

-- claim now_ms until_ms drain limit few_first 0/1, then per org: org weight max_inflight (-1: no limit) lanes, then per lane: lane capacity
--   ->  {look again 0/1, ticket, keyed 0/1, …}, each org's best first. Without `look again` nothing is left that this drain could
--       claim now; what comes, or finds room, wakes somebody.
if verb == 'claim' then
  local now, until_ms, drain, limit, orgs, i = tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), {}, 7
  while i <= #ARGV do
    -- asked: what there is room for; wants: what of it may be taken now
    local o = { org = ARGV[i], weight = tonumber(ARGV[i + 1]), lanes = {}, asked = 0, wants = 0, taken = 0 }
    local most, count = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    local allowed = math.huge
    if most >= 0 then allowed = rebuilt() and most - in_flight(o.org) or 0 end
    i = i + 4
    for _ = 1, count do
      local capacity = tonumber(ARGV[i + 1])
      if capacity > 0 then
        o.lanes[ARGV[i]] = math.min(capacity, limit)
        o.asked = o.asked + math.min(capacity, redis.call('ZCARD', queue(o.org, ARGV[i])))
      end
      i = i + 2
    end
    o.asked = math.min(o.asked, allowed)
    o.wants = math.min(o.asked, limit)
    if o.wants > 0 then orgs[#orgs + 1] = o end
  end
  local flooding = keep_apart(orgs, drain, now, limit, ARGV[6] == '1')
  local answer, again, wanted = { 0 }, false, false
  if #orgs == 0 then return answer end
  local at, virtual = shares(orgs, limit)
  for _, o in ipairs(orgs) do
    if o.share > 0 then again = take(o, until_ms, answer) or again end
    if o.taken > 0 then redis.call('ZADD', p .. ':active', now, o.org) end
  end
  for _, o in ipairs(flooding) do
    redis.call('ZADD', p .. ':crowd', now, o.org)
    if o.taken > 0 and drain ~= '' then
      redis.call('ZADD', p .. ':busy', now, drain)
      again = true -- nobody is woken for this org until then
    end
  end
  redis.call('PEXPIRE', p .. ':busy', BUSY_MS)
  redis.call('ZREMRANGEBYSCORE', p .. ':crowd', '-inf', now - BUSY_MS)
  redis.call('PEXPIRE', p .. ':crowd', BUSY_MS)
  redis.call('PEXPIRE', p .. ':active', ACTIVE_MS)
  if redis.call('EXISTS', p .. ':orgs') == 1 then remember_turns(orgs, at, virtual) end
  for _, o in ipairs(orgs) do
    if o.asked > o.taken then
      again = again or #answer > 1
      wanted = wanted or not is_seen_to(now, o.org)
    end
  end
  if again then answer[1] = 1 end
  -- Whoever waits was told of no more than we have seen: he may help.
  if wanted and alive(now) > 1 then wake(1) end
  return answer
end

-- keep until_ms ticket…: these claims go on  ->  0/1 for each: whether it still is one
if verb == 'keep' then
  local kept = {}
  for i = 3, #ARGV do
    kept[#kept + 1] = redis.call('ZSCORE', p .. ':claims', ARGV[i]) and 1 or 0
    redis.call('ZADD', p .. ':claims', 'XX', ARGV[2], ARGV[i])
  end
  return kept
end

-- settle now_ms dispatched ticket…: these claims are dealt with; the first `dispatched` of them went to agents  ->  number removed
if verb == 'settle' then
  local removed, dispatched, minute = 0, tonumber(ARGV[3]), math.floor(ARGV[2] / 60000)
  local counts = {}
  for i = 4, #ARGV do
    local t = cjson.decode(ARGV[i])
    if unclaim(t[1], ARGV[i], t[3]) then
      removed = removed + 1
      forget_key(t[1], t[2], t[3], ARGV[i])
    end
    if i - 3 <= dispatched then
      local name = p .. ':served:' .. t[1] .. ':' .. minute
      counts[name] = counts[name] or {}
      counts[name][t[2]] = (counts[name][t[2]] or 0) + 1
    end
  end
  for name, lanes in pairs(counts) do
    for lane, count in pairs(lanes) do redis.call('HINCRBY', name, lane, count) end
    redis.call('EXPIRE', name, 180)
  end
  return removed
end

-- release refund ticket…: back to the same place in the queue, and `refund` of virtual time each to their org
if verb == 'release' then
  for i = 3, #ARGV do
    local t = cjson.decode(ARGV[i])
    local priority, keyed = unclaim(t[1], ARGV[i], t[3])
    if priority then
      put(t[1], t[2], priority, t[3], ARGV[i], keyed)
      if redis.call('HEXISTS', p .. ':turns', t[1]) == 1 then redis.call('HINCRBYFLOAT', p .. ':turns', t[1], '-' .. ARGV[2]) end
    end
  end
  return #ARGV - 2
end

-- defer due_ms ticket…: claimed, and to wait until then
if verb == 'defer' then
  for i = 3, #ARGV do
    local t = cjson.decode(ARGV[i])
    local priority = unclaim(t[1], ARGV[i], t[3])
    if priority then
      redis.call('ZADD', p .. ':delayed', ARGV[2], ARGV[i])
      redis.call('HSET', p .. ':later:' .. t[1], ARGV[i], priority)
    end
  end
  return #ARGV - 2
end

-- admit ticket…: contests that are decided for them
if verb == 'admit' then
  for i = 2, #ARGV do
    local t = cjson.decode(ARGV[i])
    if redis.call('ZREM', p .. ':contests', ARGV[i]) == 1 then
      local priority = tonumber(redis.call('HGET', p .. ':contested:' .. t[1], ARGV[i]) or 0)
      redis.call('HDEL', p .. ':contested:' .. t[1], ARGV[i])
      put(t[1], t[2], priority, t[3], ARGV[i], keyed_of(t[1], ARGV[i]))
    end
  end
  wake(1)
  return #ARGV - 1
end

-- remove org, then per item: lane member  ->  number removed from wherever they were
if verb == 'remove' then
  local removed, org = 0, ARGV[2]
  for i = 3, #ARGV, 2 do
    local lane, member = ARGV[i], ARGV[i + 1]
    local ticket = ticket_of(org, lane, member)
    removed = removed + redis.call('ZREM', queue(org, lane), member)
    forget_if_empty(org, lane)
    if redis.call('ZREM', p .. ':delayed', ticket) == 1 then
      redis.call('HDEL', p .. ':later:' .. org, ticket)
      removed = removed + 1
    end
    if unclaim(org, ticket, member) then removed = removed + 1 end
    local keyed = keyed_of(org, ticket)
    if keyed then
      if redis.call('ZREM', p .. ':contests', ticket) == 1 then
        redis.call('HDEL', p .. ':contested:' .. org, ticket)
        removed = removed + 1
      end
      removed = removed + leave_parked(org, keyed[1], ticket)
      redis.call('HDEL', p .. ':keyed:' .. org, ticket)
      unpark(org, keyed[1]) -- it may have been on its way to a place
    end
  end
  return removed
end

-- reprice org, then per item: lane member priority: another priority, wherever it waits  ->  number found
if verb == 'reprice' then
  local found, org = 0, ARGV[2]
  for i = 3, #ARGV, 3 do
    local lane, member, priority = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    local ticket, worth = ticket_of(org, lane, member), score(org, priority, member)
    if redis.call('ZSCORE', queue(org, lane), member) then
      redis.call('ZADD', queue(org, lane), 'XX', worth, member)
      found = found + 1
    else
      for _, name in ipairs({ ':later:', ':claimed:', ':contested:' }) do
        if redis.call('HEXISTS', p .. name .. org, ticket) == 1 then
          redis.call('HSET', p .. name .. org, ticket, priority)
          found = found + 1
        end
      end
      local keyed = keyed_of(org, ticket)
      if keyed and redis.call('ZSCORE', p .. ':parked:' .. org .. ':' .. keyed[1], ticket) then
        redis.call('ZADD', p .. ':parked:' .. org .. ':' .. keyed[1], 'XX', worth, ticket)
        found = found + 1
      end
    end
  end
  return found
end

-- missing org, then per item: lane member priority  ->  1-based indexes of items found nowhere
-- One that waits in its lane under another priority gets its right place.
if verb == 'missing' then
  local missing, org = {}, ARGV[2]
  local has_keys = redis.call('EXISTS', p .. ':keyed:' .. org) == 1
  for i = 3, #ARGV, 3 do
    local lane, member = ARGV[i], ARGV[i + 1]
    local ticket, known = ticket_of(org, lane, member), redis.call('ZSCORE', queue(org, lane), member)
    if known then
      local worth = score(org, tonumber(ARGV[i + 2]), member)
      if tonumber(known) ~= worth then redis.call('ZADD', queue(org, lane), worth, member) end
    elseif not redis.call('ZSCORE', p .. ':delayed', ticket)
      and not redis.call('ZSCORE', p .. ':claims', ticket)
      and not (has_keys and redis.call('HEXISTS', p .. ':keyed:' .. org, ticket) == 1) then
      missing[#missing + 1] = (i - 3) / 3 + 1
    end
  end
  return missing
end

-- age org points_per_minute: score everything of the org by another slope, in one step  ->  number scored
if verb == 'age' then
  local org, slope, scored = ARGV[2], tonumber(ARGV[3]), 0
  local function again(name, is_ticket)
    local found = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
    local before = slope_of(org)
    for i = 1, #found, 1000 do
      local changed = {}
      for j = i, math.min(i + 999, #found), 2 do
        local at = minutes(is_ticket and cjson.decode(found[j])[3] or found[j])
        local priority = math.floor(at * before - tonumber(found[j + 1]) + 0.5)
        changed[#changed + 1] = slope == 0 and 0 - priority or at * slope - priority
        changed[#changed + 1] = found[j]
      end
      redis.call('ZADD', name, unpack(changed))
      scored = scored + #changed / 2
    end
  end
  for _, lane in ipairs(redis.call('SMEMBERS', p .. ':lanes:' .. org)) do again(queue(org, lane), false) end
  for _, key in ipairs(redis.call('ZRANGE', p .. ':parking:' .. org, 0, -1)) do again(p .. ':parked:' .. org .. ':' .. key, true) end
  if slope == 0 then
    redis.call('HDEL', p .. ':slopes', org)
  else
    redis.call('HSET', p .. ':slopes', org, ARGV[3])
  end
  return scored
end

-- How many of an org were dispatched of each lane, in the minute `back` minutes ago.
local function served(org, now, back)
  return redis.call('HGETALL', p .. ':served:' .. org .. ':' .. (math.floor(now / 60000) - back))
end

-- standing now_ms org lane member  ->  {where, position, size of its lane, ahead in the org, due ms, key, {member …}, in flight,
--                                       this minute's dispatches, last minute's}
if verb == 'standing' then
  local now, org, lane, member = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
  local ticket, worth = ticket_of(org, lane, member), redis.call('ZSCORE', queue(org, ARGV[4]), ARGV[5])
  local keyed = keyed_of(org, ticket)
  local where, position, due = 'nowhere', -1, redis.call('ZSCORE', p .. ':delayed', ticket) or '0'
  if worth then
    where, position = 'lane', redis.call('ZRANK', queue(org, lane), member)
  elseif due ~= '0' then
    where = 'delayed'
  elseif redis.call('ZSCORE', p .. ':claims', ticket) then
    where, position = 'claimed', 0
  elseif redis.call('ZSCORE', p .. ':contests', ticket) then
    where = 'contested'
  elseif keyed then
    position = redis.call('ZRANK', p .. ':parked:' .. org .. ':' .. keyed[1], ticket) or -1
    if position >= 0 then where = 'parked' end
  end
  local ahead = 0
  if worth then
    for _, other in ipairs(redis.call('SMEMBERS', p .. ':lanes:' .. org)) do
      ahead = ahead + (other == lane and position or redis.call('ZCOUNT', queue(org, other), '-inf', '(' .. worth))
    end
  end
  local there = keyed and redis.call('HKEYS', p .. ':key:' .. org .. ':' .. keyed[1]) or {}
  return {
    where, position, redis.call('ZCARD', queue(org, lane)), ahead, due, keyed and keyed[1] or '', there, in_flight(org),
    served(org, now, 0), served(org, now, 1),
  }
end

-- board now_ms org keys  ->  {{lane size head member …}, delayed, parked, {key parked …}, keys with parked, contested, claimed,
--                             held, this minute's dispatches, last minute's}
if verb == 'board' then
  local now, org, lanes = tonumber(ARGV[2]), ARGV[3], {}
  for _, lane in ipairs(redis.call('SMEMBERS', p .. ':lanes:' .. org)) do
    lanes[#lanes + 1] = lane
    lanes[#lanes + 1] = redis.call('ZCARD', queue(org, lane))
    lanes[#lanes + 1] = redis.call('ZRANGE', queue(org, lane), 0, 0)[1] or ''
  end
  return {
    lanes,
    redis.call('HLEN', p .. ':later:' .. org),
    tonumber(redis.call('HGET', p .. ':aside', org) or 0),
    redis.call('ZRANGE', p .. ':parking:' .. org, 0, ARGV[4] - 1, 'REV', 'WITHSCORES'),
    redis.call('ZCARD', p .. ':parking:' .. org),
    redis.call('HLEN', p .. ':contested:' .. org),
    redis.call('HLEN', p .. ':claimed:' .. org),
    tonumber(redis.call('HGET', p .. ':held', org) or 0),
    served(org, now, 0),
    served(org, now, 1),
  }
end

-- leave id  ->  1 when there is work that no living drain would see
if verb == 'leave' then
  redis.call('ZREM', p .. ':drains', ARGV[2])
  redis.call('ZREM', p .. ':busy', ARGV[2])
  return has_work()
end

-- nudge now_ms: somebody may have room now  ->  {work waiting 0/1, drains alive}
if verb == 'nudge' then
  local now, waiting = tonumber(ARGV[2]), has_work()
  if waiting == 1 and not is_seen_to(now) then wake(1) end
  return { waiting, alive(now) }
end

return redis.error_reply('unknown verb ' .. verb)

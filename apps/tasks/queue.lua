-- The task queue. Redis is the order; every key here can be rebuilt from the database.
--
--   <p>:queue:<org>:<lane>   ZSET   member "<sequence, 16 hex>:<task key>", score -priority: exact priority, then first come
--   <p>:lanes:<org>          SET    lanes of the org that hold something
--   <p>:orgs                 SET    orgs that have a lane
--   <p>:delayed              ZSET   ticket, score: due, ms
--   <p>:claims               ZSET   ticket, score: when the claim lapses, ms
--   <p>:wake                 LIST   tokens that wake waiting dispatchers; never longer than a few
--   <p>:drains               ZSET   drain id, score: alive until, ms
--
-- A ticket is the JSON array [org, lane, priority, member].
-- KEYS[1] is the prefix; ARGV[1] names the verb.

local p, verb = KEYS[1], ARGV[1]
local queue = function(org, lane) return p .. ':queue:' .. org .. ':' .. lane end

local function put(org, lane, priority, member)
  redis.call('ZADD', queue(org, lane), -priority, member)
  redis.call('SADD', p .. ':lanes:' .. org, lane)
  redis.call('SADD', p .. ':orgs', org)
end

local function wake(tokens)
  for _ = 1, tokens do redis.call('LPUSH', p .. ':wake', 1) end
  redis.call('LTRIM', p .. ':wake', 0, 7)
end

-- The number of drains alive; the caller sends a message when there are too few.
local function alive(now)
  redis.call('ZREMRANGEBYSCORE', p .. ':drains', '-inf', now)
  return redis.call('ZCARD', p .. ':drains')
end

local function forget_if_empty(org, lane)
  if redis.call('EXISTS', queue(org, lane)) == 0 then
    redis.call('SREM', p .. ':lanes:' .. org, lane)
    if redis.call('EXISTS', p .. ':lanes:' .. org) == 0 then redis.call('SREM', p .. ':orgs', org) end
  end
end

-- push now_ms org, then per item: lane priority member not_before_ms  ->  drains alive
if verb == 'push' then
  local now, org = tonumber(ARGV[2]), ARGV[3]
  for i = 4, #ARGV, 4 do
    local lane, priority, member, due = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3])
    local ticket = cjson.encode({ org, lane, priority, member })
    if due > now then
      redis.call('ZADD', p .. ':delayed', due, ticket)
    else
      redis.call('ZREM', p .. ':delayed', ticket)
      put(org, lane, priority, member)
    end
  end
  wake(1)
  return alive(now)
end

-- tick now_ms limit: due items and lapsed claims return to their queues  ->  number moved
if verb == 'tick' then
  local moved = 0
  for _, name in ipairs({ ':delayed', ':claims' }) do
    local due = redis.call('ZRANGEBYSCORE', p .. name, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
    for _, ticket in ipairs(due) do
      local t = cjson.decode(ticket)
      redis.call('ZREM', p .. name, ticket)
      put(t[1], t[2], t[3], t[4])
    end
    moved = moved + #due
  end
  if moved > 0 then wake(1) end
  return moved
end

-- lanes  ->  flat list: org lane size …
if verb == 'lanes' then
  local found = {}
  for _, org in ipairs(redis.call('SMEMBERS', p .. ':orgs')) do
    for _, lane in ipairs(redis.call('SMEMBERS', p .. ':lanes:' .. org)) do
      local size = redis.call('ZCARD', queue(org, lane))
      if size > 0 then
        found[#found + 1] = org
        found[#found + 1] = lane
        found[#found + 1] = size
      end
    end
  end
  return found
end

-- claim until_ms limit org, then per lane: lane capacity  ->  tickets, best first.
-- The best of all lanes given, up to each lane's capacity; what is taken is claimed until `until_ms`.
if verb == 'claim' then
  local until_ms, limit, org = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
  local heads = {}
  for i = 5, #ARGV, 2 do
    local lane, capacity = ARGV[i], math.min(tonumber(ARGV[i + 1]), limit)
    if capacity > 0 then
      local found = redis.call('ZRANGE', queue(org, lane), 0, capacity - 1, 'WITHSCORES')
      for j = 1, #found, 2 do
        heads[#heads + 1] = { lane = lane, member = found[j], score = tonumber(found[j + 1]) }
      end
    end
  end
  table.sort(heads, function(a, b)
    if a.score ~= b.score then return a.score < b.score end
    return a.member < b.member
  end)
  local taken, lanes = {}, {}
  for i = 1, math.min(limit, #heads) do
    local head = heads[i]
    local ticket = cjson.encode({ org, head.lane, 0 - head.score, head.member })
    redis.call('ZREM', queue(org, head.lane), head.member)
    redis.call('ZADD', p .. ':claims', until_ms, ticket)
    taken[i] = ticket
    lanes[head.lane] = true
  end
  for lane, _ in pairs(lanes) do forget_if_empty(org, lane) end
  return taken
end

-- settle ticket…: these claims are dealt with  ->  number removed
if verb == 'settle' then
  local removed = 0
  for i = 2, #ARGV do removed = removed + redis.call('ZREM', p .. ':claims', ARGV[i]) end
  return removed
end

-- release ticket…: back to the same place in the queue
if verb == 'release' then
  for i = 2, #ARGV do
    local t = cjson.decode(ARGV[i])
    redis.call('ZREM', p .. ':claims', ARGV[i])
    put(t[1], t[2], t[3], t[4])
  end
  return #ARGV - 1
end

-- remove org, then per item: lane priority member  ->  number removed from wherever they were
if verb == 'remove' then
  local removed, org = 0, ARGV[2]
  for i = 3, #ARGV, 3 do
    local lane, priority, member = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    local ticket = cjson.encode({ org, lane, priority, member })
    removed = removed + redis.call('ZREM', queue(org, lane), member)
      + redis.call('ZREM', p .. ':delayed', ticket) + redis.call('ZREM', p .. ':claims', ticket)
    forget_if_empty(org, lane)
  end
  return removed
end

-- missing org, then per item: lane priority member  ->  1-based indexes of items found nowhere
if verb == 'missing' then
  local missing, org = {}, ARGV[2]
  for i = 3, #ARGV, 3 do
    local lane, priority, member = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    local ticket = cjson.encode({ org, lane, priority, member })
    if not redis.call('ZSCORE', queue(org, lane), member)
      and not redis.call('ZSCORE', p .. ':delayed', ticket)
      and not redis.call('ZSCORE', p .. ':claims', ticket) then
      missing[#missing + 1] = (i - 3) / 3 + 1
    end
  end
  return missing
end

-- enter now_ms until_ms id: a drain is alive  ->  drains alive
if verb == 'enter' then
  redis.call('ZADD', p .. ':drains', ARGV[3], ARGV[4])
  return alive(tonumber(ARGV[2]))
end

-- leave id  ->  1 when there is work that no living drain would see
if verb == 'leave' then
  redis.call('ZREM', p .. ':drains', ARGV[2])
  return redis.call('EXISTS', p .. ':orgs')
end

-- nudge now_ms: somebody may have room now  ->  {work waiting 0/1, drains alive}
if verb == 'nudge' then
  local waiting = redis.call('EXISTS', p .. ':orgs')
  if waiting == 1 then wake(1) end
  return { waiting, alive(tonumber(ARGV[2])) }
end

return redis.error_reply('unknown verb ' .. verb)

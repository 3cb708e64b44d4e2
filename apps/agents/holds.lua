-- Who holds what: leases, and from them each agent's load. Rebuildable from the database. Follows places.lua.
--
--   <p>:leases        ZSET   hold "<task key>#<attempt>", score: when it lapses, ms
--   <p>:holders       HASH   hold -> JSON [org, agent], with a concurrency key [org, agent, key, member]
--   <p>:load:<org>    HASH   agent -> number of holds; kept with `holders`, so that doing a thing twice counts once
--   <p>:held          HASH   org -> number of holds; likewise
--
-- KEYS[1] is the prefix; ARGV[1] names the verb.

local verb = ARGV[1]

-- take until_ms, then per hold: hold org agent place ("" or JSON [key, member])  ->  number newly held
if verb == 'take' then
  local new = 0
  for i = 3, #ARGV, 4 do
    local hold, org, agent, place = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] ~= '' and cjson.decode(ARGV[i + 3]) or {}
    if redis.call('HSETNX', p .. ':holders', hold, cjson.encode({ org, agent, place[1], place[2] })) == 1 then
      redis.call('HINCRBY', p .. ':load:' .. org, agent, 1)
      redis.call('HINCRBY', p .. ':held', org, 1)
      if place[1] then occupy(org, place[1], place[2]) end
      new = new + 1
    end
    redis.call('ZADD', p .. ':leases', ARGV[2], hold)
  end
  return new
end

-- drop hold…  ->  number dropped
if verb == 'drop' then
  local dropped = 0
  for i = 2, #ARGV do
    local hold = ARGV[i]
    redis.call('ZREM', p .. ':leases', hold)
    local holder = redis.call('HGET', p .. ':holders', hold)
    if holder then
      local h = cjson.decode(holder)
      redis.call('HDEL', p .. ':holders', hold)
      if redis.call('HINCRBY', p .. ':load:' .. h[1], h[2], -1) <= 0 then redis.call('HDEL', p .. ':load:' .. h[1], h[2]) end
      if redis.call('HINCRBY', p .. ':held', h[1], -1) <= 0 then redis.call('HDEL', p .. ':held', h[1]) end
      if h[3] then vacate(h[1], h[3], h[4]) end
      dropped = dropped + 1
    end
  end
  return dropped
end

-- extend until_ms org agent hold…: only leases that exist, only the agent's own (agent "": anybody's), only forward
--   ->  number extended
if verb == 'extend' then
  local extended = 0
  local function is_its_own(hold)
    local holder = redis.call('HGET', p .. ':holders', hold)
    local h = holder and cjson.decode(holder)
    return h and h[1] == ARGV[3] and h[2] == ARGV[4]
  end
  for i = 5, #ARGV do
    if ARGV[4] == '' or is_its_own(ARGV[i]) then
      extended = extended + redis.call('ZADD', p .. ':leases', 'XX', 'GT', 'CH', ARGV[2], ARGV[i])
    end
  end
  return extended
end

return redis.error_reply('unknown verb ' .. verb)

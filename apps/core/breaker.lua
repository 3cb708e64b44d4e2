-- A circuit breaker, one hash: failures (in a row), opened (ms; absent: closed), probe (ms of the one try while half-open).
-- ARGV: verb, now in ms, failures that open it, ms it stays open, ms the hash lives
local verb, now = ARGV[1], tonumber(ARGV[2])
local opened = tonumber(redis.call('HGET', KEYS[1], 'opened') or '')
local pause = tonumber(ARGV[4])

if verb == 'allows' then
  if not opened then return 1 end
  if now < opened + pause then return 0 end
  -- Half open: one try at a time. One that never reported is forgotten after as long again.
  local probe = tonumber(redis.call('HGET', KEYS[1], 'probe') or '')
  if probe and now < probe + pause then return 0 end
  redis.call('HSET', KEYS[1], 'probe', now)
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  return 1
end

if verb == 'succeeded' then
  redis.call('DEL', KEYS[1])
  return 1
end

local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
-- Calls that began before it opened may still fail: they do not keep it open any longer.
if failures >= tonumber(ARGV[3]) and (not opened or now >= opened + pause) then
  redis.call('HSET', KEYS[1], 'opened', now)
  redis.call('HDEL', KEYS[1], 'probe')
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return failures

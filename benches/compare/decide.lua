-- What turnstiled does with a swipe: the card, its holder, anti-passback, presence, the event.
-- KEYS: the card, who is inside, the events. ARGV: direction, building, gate, card.
local card = redis.call('HMGET', KEYS[1], 'employee_id', 'status')
local employee, status = card[1], card[2]
local reason = 'null'
local kind = 'access.exit.recorded'
local answer = 'recorded'
if ARGV[1] == 'entry' then
  if not employee then
    reason = '"unknown_card"'
  elseif status ~= 'active' then
    reason = '"' .. status .. '"'
  elseif redis.call('HSETNX', KEYS[2], employee, ARGV[3]) == 0 then
    reason = '"anti_passback"'
  end
  kind = reason == 'null' and 'access.entry.granted' or 'access.entry.denied'
  answer = reason == 'null' and 'granted' or 'denied'
else
  redis.call('HDEL', KEYS[2], employee or '')
end
local now = redis.call('TIME')
local millis = now[1] * 1000 + math.floor(now[2] / 1000)
local sequence = redis.call('XLEN', KEYS[3]) + 1
local event = string.format(
  '{"specversion":"1.0","id":"%08x-%04x-7000-8000-%012x","source":"/buildings/%s/gates/%s","type":"%s",' ..
  '"subject":"card/%s","log":"bench.1795188056","time":"%024d","datacontenttype":"application/json",' ..
  '"sequence":"%020d","partitionkey":"%s",' ..
  '"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",' ..
  '"data":{"building":"%s","gate":"%s","card_id":"%s","employee_id":"%s","reason":%s,"by":"device/k_00000000"}}',
  math.floor(millis / 65536), millis % 65536, sequence, ARGV[2], ARGV[3], kind,
  ARGV[4], millis, sequence, employee or ARGV[4],
  ARGV[2], ARGV[3], ARGV[4], employee or '', reason)
redis.call('XADD', KEYS[3], '*', 'event', event)
return answer

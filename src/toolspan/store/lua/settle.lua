-- Write the replies of many calls and acknowledge them, as one step.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] worker     our registration, which keeps the answer of the last batch
-- KEYS[3] attempts   entry id -> list of attempts
-- KEYS[4..] others    the reply streams and the idempotency records of this batch
-- ARGV[1] group
-- ARGV[2] consumer   who believes it holds the deliveries
-- ARGV[3] batch      number of this batch; asking again with the same number changes nothing
-- ARGV[4] held       how many deliveries this worker holds
-- ARGV[5] first      smallest entry id of the batch
-- ARGV[6] last       greatest
-- ARGV[7] worker_ttl_ms
-- ARGV[8] reply_ttl
-- ARGV[9] reply_maxlen
-- ARGV[10] kinds      of how many kinds the entries are: what many have in common is sent once
-- ARGV[11..] parts   for each kind: attempt, flags, which of the others the reply goes to (0: fire and forget), how
--                    many names and values the reply has, these, how many of them are blank, which (counted from 1);
--                    then for each entry: entry id, which of the kinds, what fills the blanks
--
-- The flags are 1 if it has a record under attempts, else 0; for a call with an idempotency key a second digit follows,
-- 1 if its end is to be remembered, else 0. After what fills the blanks of such a call stand two more: which of the
-- others the record is, and the reply as it is to stand there.
--
-- Returns a digit for each: 1 settled,
--                           0 no longer ours, or acknowledged by somebody else: nothing was written,
--                           2 its reply cannot be written: it stays pending,
--                           3 a re-created group has not handed it out again yet: nothing was written.
--
-- include group
-- include ids
-- include once
-- include pending
-- include undelivered

local stream, worker, attempts = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, batch, held = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local first, last = ARGV[5], ARGV[6]
local worker_ttl_ms, reply_ttl, reply_maxlen = ARGV[7], ARGV[8], ARGV[9]
local OTHERS, PARTS = 3, 11

local answered = redis.call('HGET', worker, 'batch')
if answered and string.sub(answered, 1, #batch + 1) == batch .. ':' then
  return string.sub(answered, #batch + 2)
end

local kinds = {}
local i = PARTS
for k = 1, tonumber(ARGV[10]) do
  local attempt, flags, reply, length = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  i = i + 4
  local fields, blanks = { unpack(ARGV, i, i + length - 1) }, {}
  i = i + length
  for n = 1, tonumber(ARGV[i]) do
    blanks[n] = tonumber(ARGV[i + n])
  end
  i = i + 1 + #blanks
  kinds[k] = {
    attempt = attempt, fields = fields, blanks = blanks, reply = reply > 0 and KEYS[OTHERS + reply],
    recorded = string.sub(flags, 1, 1) == '1', idempotent = #flags > 1, kept = string.sub(flags, 2) == '1',
  }
end

local pending = pending_between(stream, group, consumer, first, last, held)
-- Only a script's first write is checked on a full server, and this one passes.
local registered = redis.call('PEXPIRE', worker, worker_ttl_ms)

local statuses, settled, recorded, written, ended = {}, {}, {}, {}, {}
while i <= #ARGV do
  local entry_id, kind = ARGV[i], kinds[tonumber(ARGV[i + 1])]
  local fields, key = kind.fields, kind.reply
  i = i + 2
  for _, n in ipairs(kind.blanks) do
    fields[n], i = ARGV[i], i + 1
  end
  local status = 1
  local entry = pending[entry_id]
  if not entry or entry[4] ~= kind.attempt then
    status = undelivered(stream, group, entry_id) and 3 or 0
  elseif key then
    local answer = redis.pcall('XADD', key, 'MAXLEN', '~', reply_maxlen, '*', unpack(fields))
    if type(answer) ~= 'string' then
      status = 2
    else
      written[key] = true
    end
  end
  if status == 1 then
    settled[#settled + 1] = entry_id
    if kind.recorded then
      recorded[#recorded + 1] = entry_id
      recorded[#recorded + 1] = entry_id .. ':mark'
    end
    if kind.idempotent then
      ended[#ended + 1] = { KEYS[OTHERS + tonumber(ARGV[i])], entry_id, kind.kept, ARGV[i + 1] }
    end
  end
  statuses[#statuses + 1] = status
  if kind.idempotent then
    i = i + 2
  end
end

if #settled > 0 then
  redis.call('XACK', stream, group, unpack(settled))
  redis.call('XDEL', stream, unpack(settled))
end
if #recorded > 0 then
  redis.pcall('HDEL', attempts, unpack(recorded))
end
for _, call in ipairs(ended) do
  once.close(unpack(call))
end
for key in pairs(written) do
  redis.call('EXPIRE', key, reply_ttl)
end
local result = table.concat(statuses)
redis.call('HSET', worker, 'batch', batch .. ':' .. result)
-- A registration that had expired is there again, by that.
if registered == 0 then
  redis.call('PEXPIRE', worker, worker_ttl_ms)
end
return result

-- The idempotency record of a call: a JSON object of `entry`, `id`, `args`, and `reply` once the call has ended.
-- The first three are as append writes them, in this order, so that they can be told without decoding a result.
local once = {}

-- The entry and the hash of the arguments that a record speaks of, and whether the call has ended; nil if it is none.
function once.read(record)
  local entry_id, args = string.match(record, '^{"entry":"(%d+%-%d+)","id":".-","args":"(%x*)"')
  return entry_id, args, entry_id and string.find(record, '"args":"' .. args .. '","reply":', 1, true) ~= nil
end

function once.open(entry_id, call_id, args)
  return '{"entry":"' .. entry_id .. '","id":' .. call_id .. ',"args":"' .. args .. '"}'
end

-- The call *entry_id* has ended: write its *reply*, JSON, into the record, or remove it so that another try may run.
-- Whoever waits is told either way. What speaks of another call, or cannot be written, stays as it is.
function once.close(key, entry_id, kept, reply)
  local record = redis.pcall('GET', key)
  if type(record) ~= 'string' then
    return
  end
  local entry, _, ended = once.read(record)
  if entry ~= entry_id or ended then
    return
  end
  local closed = string.sub(record, 1, -2) .. ',"reply":' .. reply .. '}'
  if kept then
    redis.pcall('SET', key, closed, 'KEEPTTL')
  else
    redis.pcall('DEL', key)
  end
  redis.pcall('PUBLISH', key, closed)
end

-- The list of attempts of one entry: JSON in a hash, oldest first. An element without an `end` is running.
local HISTORY_KEPT = 20

local history = {}

function history.read(key, entry_id)
  local raw = redis.call('HGET', key, entry_id)
  return raw and cjson.decode(raw) or {}
end

function history.write(key, entry_id, list)
  -- The first is always kept: it says when all this began.
  while #list > HISTORY_KEPT do
    table.remove(list, 2)
  end
  redis.call('HSET', key, entry_id, cjson.encode(list))
end

-- The element of attempt *attempt* of *consumer*; a new one with *start_ms* if it is not on record yet.
function history.of(list, consumer, attempt, start_ms)
  local last = list[#list]
  if not last or last.attempt ~= attempt or last.consumer ~= consumer then
    last = { consumer = consumer, attempt = attempt, start = start_ms }
    list[#list + 1] = last
  end
  return last
end

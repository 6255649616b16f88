-- The list of attempts of one entry: JSON in a hash, oldest first. An element without an `end` is running.
local HISTORY_KEPT = 20
-- Greater whole numbers are not kept exactly, and are no times of ours.
local GREATEST = 2 ^ 53

local history = {}

local function number(value)
  -- Neither NaN nor the infinities are within these bounds, and JSON could not be written with them.
  return type(value) == 'number' and value >= 0 and value <= GREATEST and value or nil
end

-- The element as we write it; nil where what lies there is none.
local function attempt_in(element)
  if type(element) ~= 'table' or type(element.consumer) ~= 'string' then
    return nil
  end
  local attempt, start = number(element.attempt), number(element.start)
  if not attempt or not start then
    return nil
  end
  local error_type = type(element.error) == 'string' and element.error or nil
  return {
    consumer = element.consumer, attempt = attempt, start = start, ['end'] = number(element['end']), error = error_type,
  }
end

-- What cannot be read is as good as absent: one record that somebody spoilt must not stop the calls beside it.
function history.parse(record)
  local _, elements = pcall(cjson.decode, record)
  local list = {}
  if type(elements) == 'table' then
    for _, element in ipairs(elements) do
      list[#list + 1] = attempt_in(element)
    end
  end
  return list
end

function history.read(key, entry_id)
  return history.parse(redis.call('HGET', key, entry_id))
end

-- What is written of a list. The first is always kept: it says when all this began.
function history.record(list)
  while #list > HISTORY_KEPT do
    table.remove(list, 2)
  end
  return cjson.encode(list)
end

function history.write(key, entry_id, list)
  redis.call('HSET', key, entry_id, history.record(list))
end

-- The running element of attempt *attempt* of *consumer*; a new one with *start_ms* if it is not on record yet.
-- One that has ended is another run of that number, which was given back.
function history.of(list, consumer, attempt, start_ms)
  local last = list[#list]
  if not last or last['end'] or last.attempt ~= attempt or last.consumer ~= consumer then
    last = { consumer = consumer, attempt = attempt, start = start_ms }
    list[#list + 1] = last
  end
  return last
end

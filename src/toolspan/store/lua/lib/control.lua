-- What operators ask of the workers: one hash, and a channel of the same name that tells of every change. To announce
-- one never fails the step itself, for heartbeats read the hash too.
local control = {}

local FIRST_MS, LONGEST_MS, JITTER = 1000, 30000, 0.2

-- What is written of an order.
function control.order(who, why, now)
  return cjson.encode({ who = who, why = why, at = now })
end

-- What cannot be read is long ago.
local function paused_at(value)
  local _, order = pcall(cjson.decode, value)
  local at = type(order) == 'table' and order.at
  return type(at) == 'number' and at < 2 ^ 53 and at or 0
end

-- The tools that are paused: name -> since when, in ms; nil where there are none.
function control.paused(key)
  local tools
  local values = redis.pcall('HGETALL', key)
  for i = 1, #values, 2 do
    local tool = string.match(values[i], '^pause:(.+)$')
    if tool then
      tools = tools or {}
      tools[tool] = paused_at(values[i + 1])
    end
  end
  return tools
end

-- How long a call waits until somebody looks at it again: the longer its tool has been paused the longer, up to a
-- bound. *most* bounds it too, where it is given: the caller's deadline has to be met.
function control.delay_ms(now, paused_since, most)
  local delay = math.max(FIRST_MS, math.min(LONGEST_MS, now - paused_since))
  delay = math.floor(delay * (1 - JITTER + 2 * JITTER * math.random()))
  return most and math.max(0, math.min(delay, most)) or delay
end

-- What a consumer holds.

-- All that *consumer* holds between two entry ids: entry id -> { id, consumer, idle_ms, deliveries }.
-- *most* is how many we believe it holds; entries whose hand-over we never heard of may lie between. One more is asked
-- for: if there are as many as we believe, it is known at once that there are no others.
local function pending_between(stream, group, consumer, first, last, most)
  local held = {}
  while true do
    local found = redis.call('XPENDING', stream, group, first, last, most + 1, consumer)
    for _, entry in ipairs(found) do
      held[entry[1]] = entry
    end
    if #found <= most then
      return held
    end
    first = '(' .. found[#found][1]
  end
end

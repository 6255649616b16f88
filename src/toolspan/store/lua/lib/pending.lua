-- What a consumer holds.

-- All that *consumer* holds between two entry ids: entry id -> { id, consumer, idle_ms, deliveries }.
-- *page* is how many we believe it holds; entries whose hand-over we never heard of may lie between.
local function pending_between(stream, group, consumer, first, last, page)
  local held = {}
  while true do
    local found = redis.call('XPENDING', stream, group, first, last, page, consumer)
    for _, entry in ipairs(found) do
      held[entry[1]] = entry
    end
    if #found < page then
      return held
    end
    first = '(' .. found[#found][1]
  end
end

-- The fields of entries that lie between *first* and *last*: entry id -> fields; nil where somebody deleted the body.
-- Mostly they lie side by side. What lies between them instead is read, too, but no more of it than there are of them.
local function bodies_of(stream, entry_ids, first, last)
  local bodies = {}
  for _, entry in ipairs(redis.call('XRANGE', stream, first, last, 'COUNT', #entry_ids)) do
    bodies[entry[1]] = entry[2]
  end
  for _, entry_id in ipairs(entry_ids) do
    if not bodies[entry_id] then
      local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
      bodies[entry_id] = entry and entry[2]
    end
  end
  return bodies
end

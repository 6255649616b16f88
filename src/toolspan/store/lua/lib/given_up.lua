-- Whether the calls of entries were given up: entry id -> 1 or 0; the keys that tell of it begin with *cancels*.
-- Those that do not say their call id in a field of its own are left to the worker, which can read what they are.
local function given_up_of(cancels, entry_ids, bodies)
  local given_up, asked, names = {}, {}, {}
  for _, entry_id in ipairs(entry_ids) do
    local fields = bodies[entry_id] or {}
    for i = 1, #fields, 2 do
      if fields[i] == 'id' then
        asked[#asked + 1], names[#names + 1] = entry_id, cancels .. fields[i + 1]
        break
      end
    end
  end
  if #names > 0 then
    for i, found in ipairs(redis.call('MGET', unpack(names))) do
      given_up[asked[i]] = found and 1 or 0
    end
  end
  return given_up
end

-- What the two claims share: looking at a candidate, taking it, and telling of it.

local orphan = {}

local LOSSES = { worker_lost = true, lease_expired = true }

-- How many attempts on record ended in the loss of their worker or lease.
function orphan.losses(list)
  local count = 0
  for _, attempt in ipairs(list) do
    if LOSSES[attempt.error] then
      count = count + 1
    end
  end
  return count
end

-- Whether the entry will be run, and not quarantined.
function orphan.runs(deliveries, max_attempts, mark)
  return deliveries < max_attempts and not mark
end

-- Whether it will be run, and has to be the only suspect of its worker while it is.
function orphan.is_suspect(losses, deliveries, max_attempts, mark, suspect_from)
  return losses >= suspect_from and orphan.runs(deliveries, max_attempts, mark)
end

-- The answer for one entry: id, deliveries, fields, attempts as JSON, losses, its mark or nil, since_ms.
function orphan.claimed(entry_id, deliveries, fields, list, mark, since_ms)
  return { entry_id, deliveries, fields, cjson.encode(list), orphan.losses(list), mark, since_ms }
end

-- Acknowledge an entry whose body somebody deleted: there is nothing left to run or to answer.
function orphan.forget(stream, group, attempts, entry_id)
  redis.call('XACK', stream, group, entry_id)
  redis.call('HDEL', attempts, entry_id, entry_id .. ':mark')
end

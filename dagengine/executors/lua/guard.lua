-- The guard: stops a script at its deadline, on cancellation or out of memory, whatever the script does to go on.
--
-- A count hook in every coroutine of a script asks the host, every few milliseconds, whether to go on. To stop is to
-- raise, and everything that can catch an error (pcall, xpcall, coroutine.resume, wrap, close) is replaced by a version
-- that does not give the script control back: where it can, it yields to the host for good, so that a deep stack need
-- not be unwound; inside a C function it raises again.
--
-- Errors raised inside a hook need care: Lua keeps hooks switched off until a pcall has unwound, so nothing of the
-- script may run before that. Hence `xpcall` calls the handler after unwinding, and a coroutine that died that way is
-- never closed (its `__close` methods would run unwatched).
--
-- `tick(log)` is the host: takes the log written so far (or nil), answers nil to go on or the reason to stop.
--
-- Where the host stops scripts by killing the process, `watched` is false: there is no hook, which makes pure Lua about
-- twice as fast, and the log is handed to the host as it is written.

local tick, watched = ...

local clock, sethook = os.clock, debug.sethook
local error, type, find, gsub, select = error, type, string.find, string.gsub, select
local pcall, setmetatable, rawget = pcall, setmetatable, rawget
local create, resume, running, status, yield = coroutine.create, coroutine.resume, coroutine.running, coroutine.status, coroutine.yield
local close, yieldable = coroutine.close, coroutine.isyieldable

local PACE <const> = 2048      -- instructions from one hook to the next
local LAST_PACE <const> = 64   -- the same once the script is stopped: enough to get to the host, and no more
local ASK_EVERY <const> = 0.005 -- seconds of processor time between two questions to the host
local SLOW <const> = 0.001     -- a hook interval that took longer was spent in C: watch more closely
local MEMORY <const> = "not enough memory"
local STOPPED <const> = "the script was stopped"

local guard = {watched = watched, reason = nil, take_log = nil, worker = nil, on_stop = nil}
local pace, hooked, asked = PACE, 0, 0
local crashed = setmetatable({}, {__mode = "k"}) -- coroutines whose `__close` methods must not run

local hook

local function stop(reason)
  if reason then
    guard.reason = reason
    sethook(hook, "", LAST_PACE)
    guard.on_stop()
  end
  if yieldable() then yield() end
  error(STOPPED, 0)
end

local function ask(now)
  asked = now
  local reason = tick(guard.take_log())
  if reason then stop(reason) end
end

-- Hands the log written so far to the host at once.
function guard.report() ask(clock()) end

-- The time that changing the pace takes is not the script's: it grows with the depth of the stack.
local function change_pace(to)
  pace = to
  sethook(hook, "", to)
  hooked = clock()
end

function hook()
  if guard.reason then error(STOPPED, 0) end
  local now = clock()
  local spent = now - hooked
  hooked = now
  if spent > SLOW then
    if pace > 16 then change_pace(pace // 8) end
  elseif pace < PACE and spent < SLOW / 8 then
    change_pace(pace * 2)
  end
  if now - asked >= ASK_EVERY then ask(now) end
end

-- Raises again what no script may catch. An error can also be one that kept the hook itself from running (the C stack
-- was full), so that the host is asked here too.
local function rethrow(message)
  if guard.reason then stop() end
  if message == MEMORY then stop("MemoryLimit") end
  local now = clock()
  if now - asked >= ASK_EVERY then ask(now) end
end
guard.rethrow = rethrow

-- Error texts name the host's own lines where a native function was called through a replacement of ours.
local function plain(message)
  if type(message) == "string" and find(message, "^host:%d+: ") then return (gsub(message, "^host:%d+: ", "")) end
  return message
end
guard.plain = plain

local function caught(ok, ...)
  if ok then return ok, ... end
  rethrow(...)
  return ok, plain(...)
end

function guard.pcall(f, ...)
  return caught(pcall(f, ...))
end

local function handled(handler, ok, ...)
  if ok then return ok, ... end
  rethrow(...)
  return false, select(2, caught(pcall(handler, (plain(...)))))
end

function guard.xpcall(f, handler, ...)
  if type(handler) ~= "function" then
    error("bad argument #2 to 'xpcall' (function expected, got " .. type(handler) .. ")", 2)
  end
  return handled(handler, pcall(f, ...))
end

-- `__gc` runs at any time, in anybody's attempt, unwatched by hooks.
function guard.setmetatable(t, meta)
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then error("__gc is not available", 2) end
  return setmetatable(t, meta)
end

---------------------------------------------------------------------------------------------------------------------

local coroutines = {status = status}
guard.coroutine = coroutines

function guard.watch(thread)
  if watched then sethook(thread, hook, "", pace) end
end

function coroutines.create(f)
  if type(f) ~= "function" then
    error("bad argument #1 to 'create' (function expected, got " .. type(f) .. ")", 2)
  end
  local thread = create(f)
  guard.watch(thread)
  return thread
end

local function is_overflow(message)
  return type(message) == "string" and (find(message, "stack overflow", 1, true) or find(message, "error in error", 1, true))
end

local function resumed(thread, ok, ...)
  if guard.reason then stop() end
  if ok then return ok, ... end
  if is_overflow(...) then crashed[thread] = true end
  rethrow(...)
  return ok, plain(...)
end

function coroutines.resume(thread, ...)
  if type(thread) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected, got " .. type(thread) .. ")", 2)
  end
  return resumed(thread, resume(thread, ...))
end

local function closed(...)
  rethrow((select(2, ...)))
  return ...
end

function coroutines.close(thread)
  if type(thread) ~= "thread" then
    error("bad argument #1 to 'close' (coroutine expected, got " .. type(thread) .. ")", 2)
  end
  local state = status(thread)
  if state ~= "suspended" and state ~= "dead" then error("cannot close a " .. state .. " coroutine", 2) end
  if crashed[thread] then return false, "stack overflow" end
  return closed(close(thread))
end

local function unwrapped(thread, ok, ...)
  if guard.reason then stop() end
  if ok then return ... end
  if is_overflow(...) then crashed[thread] = true end
  rethrow(...)
  local message = plain(...)
  if status(thread) == "dead" and not crashed[thread] then
    local fine, second = close(thread)
    if not fine then
      rethrow(second)
      message = plain(second)
    end
  end
  error(message, 0)
end

function coroutines.wrap(f)
  if type(f) ~= "function" then
    error("bad argument #1 to 'wrap' (function expected, got " .. type(f) .. ")", 2)
  end
  local thread = coroutines.create(f)
  return function(...) return unwrapped(thread, resume(thread, ...)) end
end

function coroutines.yield(...)
  if running() == guard.worker then error("attempt to yield from outside a coroutine", 2) end
  return yield(...)
end

function coroutines.running()
  local thread = running()
  return thread, thread == guard.worker
end

function coroutines.isyieldable(thread)
  if (thread or running()) == guard.worker then return false end
  return yieldable(thread)
end

return guard

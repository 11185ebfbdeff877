# Stages: independent instructions that are too short for the team one by one, and long enough together, run side by side: the two
# products of a layer's backward half, a bias's sum beside them, queries, keys and values, both directions of a recurrent layer,
# branches of a network, an optimizer's updates.  A stage is one region of the team (team.pxi): its units are dealt out to the
# threads by estimated time, whole instructions where that is even.  Threads claim parts by a counter: a thread that has lost its
# core holds up nobody before it has begun.  Between stages the threads stay awake, and the next one begins within 0.3 us.
#
# What runs at once is an item: a record with what follows it, or a group of strips.  An instruction's units and what they compute
# are what they were: the bits do not depend on who runs them, nor beside what.  For its memory a slot lives from a stage's first
# step to its last (`group_bounds`), and nothing that one member writes may be named by another; the checker asks for it again.
#
# Whether the team pays at all for a short program is measured (`keep_pace`): that depends on who else wants the cores and on
# how far they are from each other.  The same step took 0.62 of its time with a second core that shares the cache, 1.35 with one
# that does not (a cache line there and back: 0.36 us).
#
# May be touched: which items are gathered, and how they are dealt out.  Must stay: checks, draws of random numbers and what
# writes to memory from outside neither move nor are passed; with one thread the same list runs one item after the other.

cdef double STAGE_GAIN = 1000.0         # ns of wall time that a stage must save by its estimate; negative: no stages
cdef double STAGE_LEAST = 500.0         # ns of an item's serial time, for others to come to it, or to move itself
cdef double STAGE_MOST = 100000.0       # beyond, the team has enough of it alone, if it can be cut
cdef double STAGE_REGION = 500.0        # ns of a region: its barrier, and caches that another thread's results must come from
cdef int64_t STAGE_FREE = 1 << 20       # bytes of temporaries at once that cost nothing: they stay in the cache
cdef enum:
    STAGE_SPAN = 48                     # items that are looked through for a stage
    STAGE_NAMES = 256                   # slots of an item, at most, that others may pass

cdef int64_t PACE_WINDOW = 10000000     # ns of runs that are looked at together: a thread that loses its core is back after 3 ms
cdef int64_t PACE_TURNS = 32            # windows until the other way is tried again: 3 % of the time
cdef double PACE_MOST = 5e6             # estimated ns of a program; beyond, the team pays, and to try would cost

cdef struct Share:                      # units lo ... hi of an item
    const Exec* x
    int64_t lo
    int64_t hi
    int32_t status

cdef struct Stage:
    Py_ssize_t begin                    # steps begin ... end
    Py_ssize_t end
    int64_t chunks
    const int32_t* at                   # of each chunk the first of its shares; one more
    double ns                           # estimated, serial

cdef struct Pace:                       # of a program, or of half of one
    double mean[2]                      # ns of a run: with the team, on one thread; 0: not known yet
    int64_t ns                          # of this window so far
    int64_t runs
    int64_t windows                     # of this way, one after the other
    bint alone                          # this way: on one thread

cdef struct StageJob:
    Share* shares
    const int32_t* at
    char* ws
    int64_t slab
    int failed


def _set_stages(double gain, double region):
    """How many ns a stage must save by its estimate, and how many its region takes, in programs made from now on.

    A negative gain: no stages.  Returns: what was set.
    """
    global STAGE_GAIN, STAGE_REGION
    before = STAGE_GAIN, STAGE_REGION
    STAGE_GAIN, STAGE_REGION = gain, region
    return before


# ---- which items, and who runs what: on plain lists -----------------------------------------------------------------

def _shares(list costs, list units, list grains, Py_ssize_t parts):
    """Deals items out to `parts` threads.  costs: ns of each; units, grains: how many units, and where it may be cut.

    Whole items, the longest first, where that is even within a tenth; else one after the other, cut where a thread has its part.
    Returns: (for each part [(item, lo, hi), ...], the largest part's ns).
    """
    cdef Py_ssize_t t, k, take, pieces, left
    cdef double mean = py.sum(costs) / parts, cost, most
    cdef list loads = [0.0] * parts, whole = [[] for _ in range(parts)], cut = [[] for _ in range(parts)]
    cdef list order = sorted(range(len(costs)), key=lambda k: (-costs[k], k))
    for k in order:
        t = 0
        for left in range(parts):
            if <double>loads[left] < <double>loads[t]:
                t = left
        (<list>whole[t]).append((k, 0, units[k]))
        loads[t] += costs[k]
    most = py.max(loads)
    if most <= 1.1 * mean:
        return [part for part in whole if part], most
    loads = [0.0] * parts
    t = 0
    for k in order:
        pieces = (<int64_t>units[k] + <int64_t>grains[k] - 1) // <int64_t>grains[k]
        cost = <double>costs[k] / pieces
        left = pieces
        while left:
            take = left
            if t < parts - 1:
                take = py.min(left, py.max(0, py.int((mean - <double>loads[t]) / cost + 0.5)))
            if take:
                (<list>cut[t]).append((k, (pieces - left) * <int64_t>grains[k],
                                       py.min(units[k], (pieces - left + take) * <int64_t>grains[k])))
                loads[t] += take * cost
                left -= take
            if left:
                t += 1
    if py.max(loads) < most:
        return [part for part in cut if part], py.max(loads)
    return [part for part in whole if part], most


cdef double wall_alone(double cost, units, grain, int threads) except? -1:
    """Wall time of an item that is no member."""
    if cost <= PARALLEL_NS or threads < 2 or units <= grain:
        return cost
    return _shares([cost], [units], [grain], threads)[1] + STAGE_REGION


cdef double saves(list stage, list costs, list units, list grains, int threads) except? -1:
    """The ns of wall time that a stage saves; 0 if that is not a tenth."""
    cdef double now = py.sum([wall_alone(costs[q], units[q], grains[q], threads) for q in stage])
    cdef double then = _shares([costs[q] for q in stage], [units[q] for q in stage], [grains[q] for q in stage], threads)[1]
    return now - then - STAGE_REGION if now - then - STAGE_REGION >= 0.1 * now else 0


cdef list lifted(Py_ssize_t j, list light, set heavy, set heavy_made, list names, list made):
    """The light items that must move up for item j to pass all others, in their order; None: it cannot.

    heavy, heavy_made: slots that the other items to be passed name and write.
    """
    cdef set want = names[j], want_made = made[j]
    cdef list found = []
    for q in reversed(light):
        if want.isdisjoint(made[q]) and want_made.isdisjoint(names[q]):
            continue
        want = want | names[q]
        want_made = want_made | made[q]
        found.append(q)
    if want.isdisjoint(heavy_made) and want_made.isdisjoint(heavy):
        return found[::-1]
    return None


def _stages(list reads, list writes, list sizes, list costs, list units, list grains, list member, list still, list outside,
            list doubtful, cuts, int threads, double gain, int64_t most):
    """Pass: independent items are gathered into stages where that saves time and memory stays within `most` bytes.

    reads, writes: of each item, tuples of slots; sizes: bytes of each slot, 0 for what is no temporary; member: may be in one;
    still: items that neither move nor are passed; outside: write to memory from outside; doubtful: read memory that may be such
    under another name; cuts: items that begin a part of the program; gain: ns.
    Returns: [[item, ...], ...] in their new order, one list for each stage or single item.

    From each item on, those behind it are looked through: an independent one comes to it, past the others, and what it needs of
    light ones goes before.
    """
    cdef Py_ssize_t n = len(reads), i, j, q
    cdef int64_t need, more
    cdef bint doubt, writes_outside, rigid
    cdef list taken = [False] * n, order = [], alive, born = [0] * n, stage, skipped, light, first, before
    cdef list made = [set(x) for x in writes], names = [{*x, *y} for x, y in zip(reads, writes)]
    cdef set heavy, heavy_made, all_names, all_made
    alive = _alive(reads, writes, sizes, [False] * n)       # grows where results are born earlier
    first, _ = _lives(reads, writes, sizes)
    for i in range(len(sizes)):
        if sizes[i] and first[i] >= 0:
            born[<Py_ssize_t>first[i]] += sizes[i]
    for i in range(n):
        if taken[i]:
            continue
        stage = [i]
        if not member[i] or <double>costs[i] < STAGE_LEAST:
            order.append(stage)
            continue
        all_made, all_names = set(made[i]), set(names[i])
        heavy, heavy_made, light, skipped, earlier, before = set(), set(), [], [], [], []
        need = alive[i]
        writes_outside, doubt, rigid = outside[i], doubtful[i], still[i]
        for j in range(i + 1, py.min(n, i + 1 + STAGE_SPAN)):
            if taken[j]:
                continue
            if j in cuts:
                break
            if (member[j] and not (skipped and (still[j] or <double>costs[j] < STAGE_LEAST))
                    and all_made.isdisjoint(names[j]) and all_names.isdisjoint(made[j])
                    and not (outside[j] and doubt) and not (doubtful[j] and writes_outside)):
                up = lifted(j, light, heavy, heavy_made, names, made)
                if up is not None and not (up and rigid):
                    more = <int64_t>born[j] + py.sum([born[q] for q in up])
                    if (need + more <= most and py.all([<int64_t>alive[q] + more <= most for q in skipped if q not in up])
                            and py.all([all_made.isdisjoint(names[q]) and all_names.isdisjoint(made[q]) for q in up])):
                        for q in up:
                            light.remove(q)
                            skipped.remove(q)
                        before += up
                        stage.append(j)
                        all_made |= made[j]
                        all_names |= names[j]
                        need += more
                        rigid = rigid or still[j]
                        writes_outside, doubt = writes_outside or outside[j], doubt or doubtful[j]
                        if more and skipped:
                            earlier.append((more, list(skipped)))
                            for q in skipped:
                                alive[q] += more
                        continue
            if still[j]:
                break
            skipped.append(j)
            if <double>costs[j] < STAGE_LEAST:
                light.append(j)
            else:
                heavy_made |= made[j]
                heavy |= names[j]
        if len(stage) > 1 and saves(stage, costs, units, grains, threads) < gain:
            for more, passed in earlier:
                for q in passed:
                    alive[q] -= more
            stage, before = [i], []
        for q in sorted(before):
            order.append([q])
            taken[q] = True
        order.append(stage)
        for q in stage:
            taken[q] = True
    return order


# ---- a program's stages ---------------------------------------------------------------------------------------------

cdef inline bint begins_item(const Step* s) noexcept:
    return not s.group and not s.follow


cdef inline bint lies_outside(const Slot* t) noexcept:
    return t.kind == S_OUTER or t.kind == S_INPUT or t.kind == S_GRAD


cdef inline bint has_names(const Slot* t) noexcept:
    """Whether its memory may be another slot's too."""
    return t.kind == S_INPUT or (t.held and t.st.size_class < 0)


cdef int plan_stages(Program p, bint moves) except -1:
    """Passes `_stages` and `plan_memory`, carried out.  moves: whether others than neighbours may come together.

    The peak must not grow, beyond STAGE_FREE: what lives at once stays within it, and where the plan takes a 64th more all the
    same, for what lies between, less is tried.
    """
    cdef Py_ssize_t k, begin, end, members = 0
    cdef int j, m
    cdef Step* s
    cdef double ns, part
    cdef bint tiny
    cdef int64_t each = p.workspace_each, least, most
    cdef list bounds = [], costs = [], units = [], grains = [], member = [], still = [], outside = [], doubtful = []
    cdef list reads_ = [], writes_ = [], all_reads = [], all_writes = [], over = [], sizes, stages, places
    plan_memory(p)
    p.report["stages"] = p.report["staged"] = 0
    if STAGE_GAIN < 0 or THREADS < 2 or -1 in p.input_slots:
        return 0
    k = 0
    while k < p.nsteps:
        begin = k
        s = &p.steps[k]
        tiny = is_tiny(s)
        ns = s.n * s.cost
        k += 1
        while k < p.nsteps and ((tiny and is_tiny(&p.steps[k]) and k not in p.cuts) or not begins_item(&p.steps[k])):
            ns += p.steps[k].n * p.steps[k].cost
            k += 1
        bounds.append((begin, k))
        costs.append(ns)
        units.append(s.n)
        grains.append(BLOCK if s.I == NULL else s.I.grain)
        member.append(not tiny and (ns <= STAGE_MOST or wall_alone(ns, units[-1], grains[-1], THREADS) > 0.75 * ns))
        members += member[-1] and ns >= STAGE_LEAST
    if members < 2:
        return 0
    for number in range(len(bounds)):
        begin, end = <tuple>bounds[number]
        read, written, foreign, unsure, rigid = {}, {}, False, False, False
        for k in range(begin, end):
            s = &p.steps[k]
            r, w = [], []
            for j in range(s.narg):
                m = s.slot[j]
                if m < 0:
                    continue
                if writes(s, j):
                    w.append(m)
                    foreign = foreign or lies_outside(&p.slots[m])
                if j >= s.nout or reads(s, j):
                    r.append(m)
                    unsure = unsure or has_names(&p.slots[m])
            read.update(dict.fromkeys(r))
            written.update(dict.fromkeys(w))
            all_reads.append(tuple(r))
            all_writes.append(tuple(w))
            over.append(is_over(s) and len(w) > 0)
            rigid = rigid or s.host >= 0 or s.generator >= 0 or s.nout == 0
            if s.nout == 0 or has_aliases(p, s):        # a check comes before what it is for
                member[number] = False
        reads_.append(tuple(read))
        writes_.append(tuple(written))
        still.append(not moves or rigid or foreign or len(read) + len(written) > STAGE_NAMES)
        outside.append(foreign)
        doubtful.append(unsure)
    sizes = [p.slots[k].nbytes if p.slots[k].kind == S_TEMP and p.slots[k].first >= 0 else 0 for k in range(p.nslots)]
    cuts = {number for number in range(len(bounds)) if (<tuple>bounds[number])[0] in p.cuts}
    least = py.max(STAGE_FREE, p.arena_bytes)
    most = py.max(STAGE_FREE, py.max(_alive(all_reads, all_writes, sizes, over)))
    for part in (1, 0.9, 0.7, 0):
        stages = _stages(reads_, writes_, sizes, costs, units, grains, member, still, outside, doubtful, cuts, THREADS,
                         STAGE_GAIN, <int64_t>(most * part))
        places = put_stages(p, bounds, stages)
        p.workspace_each = each
        plan_memory(p)
        if p.arena_bytes <= least + least // 64:
            break
        put_steps(p, [(k, {}, False) for k in places])      # as it was
        for k in range(p.nsteps):
            p.steps[k].stage = False
        lifetimes(p)
    else:
        stages = []
        p.workspace_each = each
        plan_memory(p)
    p.report["stages"] = py.sum([len(stage) > 1 for stage in stages])
    p.report["staged"] = py.sum([len(stage) for stage in stages if len(stage) > 1])
    return 0


cdef list put_stages(Program p, list bounds, list stages):
    """The program's steps in the order of its stages.  Returns: where each step is now."""
    cdef Py_ssize_t k
    cdef list order = [], marked = [], places
    for stage in stages:
        for number in <list>stage:
            if number != (<list>stage)[0]:
                marked.append(len(order))
            order += range(*<tuple>bounds[<Py_ssize_t>number])
    put_steps(p, [(k, {}, False) for k in order])
    for k in marked:
        p.steps[k].stage = True
    lifetimes(p)
    places = [0] * len(order)
    for k in range(len(order)):
        places[<Py_ssize_t>order[k]] = k
    return places


def _join(Program p not None, Py_ssize_t k):
    """Let step k run beside the one before it, be that right or wrong: for the checker to find out."""
    if not 0 < k < p.nsteps:
        raise IndexError("no such step")
    p.steps[k].stage = True


cdef str wrong_stage(Program p, Py_ssize_t k, list seen):
    """None, or what is wrong with step k's place in its stage.

    seen: slots that the members before it name and write, and that its own item does so far, and whether some have no place in
    a stage; kept from step to step.
    """
    cdef Step* s = &p.steps[k]
    cdef int j
    seen[4] = (seen[4] and (s.stage or not begins_item(s))) or s.nout == 0 or has_aliases(p, s)
    if begins_item(s):
        if s.stage:
            seen[0] |= seen[2]
            seen[1] |= seen[3]
            if k == 0 or k in p.cuts or is_tiny(s) or is_tiny(&p.steps[k - 1]):
                return "a stage begins or ends before it"
        else:
            seen[0], seen[1] = set(), set()
        seen[2], seen[3] = set(), set()
    elif s.stage:
        return "it is in a group, and begins no item of a stage"
    if seen[4] and (s.stage or seen[0]):
        return "it is in a stage, and checks others or writes to memory of many names"
    for j in range(s.narg):
        if s.slot[j] < 0:
            continue
        seen[2].add(s.slot[j])
        if writes(s, j):
            seen[3].add(s.slot[j])
        if s.slot[j] in (seen[0] if writes(s, j) else seen[1]):
            return f"slot {s.slot[j]} is written by one member of its stage and named by another"
    return None


cdef int deal_out(Program p, int threads) except -1:
    """Who runs what of each stage, for this many threads."""
    cdef Py_ssize_t k, end, count = 0, stages = 0, chunks = 0
    cdef Stage* stage
    cdef list found = [], items
    cdef double ns
    if p.dealt_for == threads:
        return 0
    p.dealt_for = 0
    free(p.stages)
    free(p.shares)
    free(p.share_at)
    p.stages = NULL
    p.shares = NULL
    p.share_at = NULL
    k = 0
    while k < p.nsteps:
        end = k + 1
        items = [k]
        while end < p.nsteps and (p.steps[end].stage or not begins_item(&p.steps[end])):
            if p.steps[end].stage:
                items.append(end)
            end += 1
        p.code[k].stage = 0
        if len(items) > 1:
            ns = py.sum([p.code[<Py_ssize_t>q].ns for q in items])
            parts, _ = _shares([p.code[<Py_ssize_t>q].ns for q in items], [p.code[<Py_ssize_t>q].n for q in items],
                               [BLOCK if p.code[<Py_ssize_t>q].I == NULL else p.code[<Py_ssize_t>q].I.grain for q in items],
                               4 * threads if ns > 2e6 else threads)
            found.append((items, end, ns, parts))
            count += py.sum([len(part) for part in parts])
            chunks += len(parts) + 1
        k = end
    p.stages = <Stage*>calloc(len(found) + 1, sizeof(Stage))
    p.shares = <Share*>calloc(count + 1, sizeof(Share))
    p.share_at = <int32_t*>calloc(chunks + 1, sizeof(int32_t))
    if p.stages == NULL or p.shares == NULL or p.share_at == NULL:
        raise MemoryError()
    count = chunks = 0
    for items, end, ns, parts in found:
        stage = &p.stages[stages]
        stages += 1
        stage.begin, stage.end, stage.ns = items[0], end, ns
        p.code[stage.begin].stage = <int32_t>stages
        stage.chunks = len(parts)
        stage.at = &p.share_at[chunks]
        for part in parts:
            p.share_at[chunks] = <int32_t>count
            chunks += 1
            for q, lo, hi in part:
                p.shares[count] = Share(&p.code[<Py_ssize_t>items[q]], lo, hi, ST_OK)
                count += 1
        p.share_at[chunks] = <int32_t>count
        chunks += 1
    p.dealt_for = threads
    return 0


cdef void stage_chunk(void* job, int64_t chunk, int slot) noexcept nogil:
    cdef StageJob* j = <StageJob*>job
    cdef char* ws = j.ws + slot * j.slab
    cdef int32_t a
    cdef Share* s
    for a in range(j.at[chunk], j.at[chunk + 1]):
        s = &j.shares[a]
        if s.x.I == NULL:
            run_strips(s.x, s.lo, s.hi, ws)
        else:
            s.status = run_range(s.x.I, s.lo, s.hi, ws)
            if s.status != ST_OK:
                j.failed = 1


cdef int run_stage(Program p, const Stage* stage, int threads, char* ws, int64_t slab, Py_ssize_t* failed) noexcept nogil:
    """All members of a stage; of those that fail, the first one is told."""
    cdef StageJob job
    cdef int32_t a
    cdef int status = ST_OK
    cdef const Exec* first = NULL
    job.shares = p.shares
    job.at = stage.at
    job.ws = ws
    job.slab = slab
    job.failed = 0
    team_region(threads, stage.chunks, stage_chunk, &job)
    if job.failed:
        for a in range(stage.at[0], stage.at[stage.chunks]):
            if p.shares[a].status != ST_OK and (first == NULL or p.shares[a].x < first):
                first = p.shares[a].x
                status = p.shares[a].status
            p.shares[a].status = ST_OK
        failed[0] = first - p.code
    return status


# ---- whether the team pays, as measured -----------------------------------------------------------------------------

def _set_pace(int64_t window, int64_t turns):
    """ns of a window, and windows until the other way is tried again.  Returns: what was set."""
    global PACE_WINDOW, PACE_TURNS
    before = PACE_WINDOW, PACE_TURNS
    PACE_WINDOW, PACE_TURNS = window, turns
    return before


def _pace(list runs):
    """Which of these runs are on one thread; runs: (ns with the team, ns on one thread)."""
    cdef Pace pace
    cdef list ways = []
    memset(&pace, 0, sizeof(pace))
    for team, alone in runs:
        ways.append(pace.alone != 0)
        keep_pace(&pace, alone if pace.alone else team)
    return ways


cdef inline bint is_paced(Program p) noexcept:
    """Whether it is measured if the team pays: programs that are for the team, but not surely so."""
    return p.ns < PACE_MOST and (p.ns > PARALLEL_NS or p.dealt_for > 0)


cdef void keep_pace(Pace* pace, int64_t ns) noexcept:
    """A run took so long.  After a window of runs the way that takes less goes on; the other one is tried in its turn."""
    cdef double mean
    pace.ns += ns
    pace.runs += 1
    if pace.ns < PACE_WINDOW:
        return
    mean = <double>pace.ns / pace.runs
    if pace.mean[pace.alone] > 0:
        mean = 0.5 * (mean + pace.mean[pace.alone])
    pace.mean[pace.alone] = mean
    pace.windows += 1
    if mean > pace.mean[not pace.alone] or pace.windows >= PACE_TURNS:
        pace.alone = not pace.alone
        pace.windows = 0
    pace.ns = pace.runs = 0

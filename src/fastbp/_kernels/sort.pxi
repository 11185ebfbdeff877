# Floor 1, room "sort": stable sorting and selection.
# May be changed: digits, buckets, the lengths at which a method gives way to another.  Must stay: the result is the
# stable order, which is one and only one, so it has the same bits however the work is cut.
#
# Values become unsigned keys of the same order: sign bit flipped, negative floats complemented, -0.0 as 0.0, every NaN
# largest.  A key and its position travel together: as one word (32 bits each), or as a pair where a row has more
# positions or keys further apart than that; where positions are not asked for, as the key alone.
#
# A row in cache is sorted by digits from the least significant up (radix sort), but only as many high bits as tell
# most of the keys apart; what is still equal then is sorted by the other bits.  A long row is first dealt into buckets
# by its highest bits, in parallel, then every bucket is sorted.  Where only ranks [first, last) are asked for, only the
# buckets that hold them are.

cdef enum:
    SORT_FEW = 24           # up to so many: insertion
    SORT_FIRST = 16         # first ranks that are kept while the row is read
    SORT_SEEN = 64          # values that are compared with the last of them at a time
    SORT_RANKED = 128       # rows up to so long: ranks by counting, at most
    SORT_HALVED = 48        # rows of more words of 64 bits: by their upper halves first
    SORT_COLUMNS = 16       # columns that are turned together
    SORT_KEYS = 4096        # bytes of keys that are made at a time
    SORT_DIGIT = 11         # bits of a digit at most: 2048 counters of 8 bytes stay in L1
    SORT_BUCKETS = 2048
    SORT_BLOCKS = 64        # parts of a long row that are dealt at the same time
    SORT_UNITS = 256        # groups of buckets that are sorted at the same time
    SORT_WORD = 0           # what travels: key and position in one word
    SORT_PAIR = 1           # key, position
    SORT_BARE = 2           # key
    # the plan of a long row, in words
    SP_BASE = 0             # smallest key
    SP_BITS = 1             # keys minus SP_BASE have so many bits
    SP_FORM = 2             # SORT_WORD ...
    SP_FIRST = 3            # first and last bucket that are wanted
    SP_LAST = 4
    SP_RANK = 5             # rank of the first value of bucket SP_FIRST
    SP_SPAN = 16            # smallest and largest key of each block
    SP_START = 160          # where each bucket begins, and the end of the last one
    SP_WORDS = 2304

ctypedef struct SortPair:
    uint64_t key
    int64_t at

ctypedef fused sort_item:
    uint64_t
    SortPair

ctypedef fused sortable:
    float
    double
    int64_t
    int32_t

ctypedef fused sort_word:
    uint32_t
    uint64_t

# The key of a value; flip: all ones for descending order.  bare: zeros of both signs stay apart.
cdef inline uint64_t sort_key(sortable v, uint64_t flip, bint bare) noexcept nogil:
    cdef uint64_t u
    cdef uint32_t w
    if sortable is float:
        w = <uint32_t>kf_bits(v if bare else v + <float>0)
        w = w ^ (<uint32_t>(<int32_t>w >> 31) | <uint32_t>0x80000000)
        w = w if v == v else <uint32_t>0xffffffff
        return <uint64_t>(w ^ <uint32_t>flip)
    elif sortable is double:
        u = <uint64_t>kd_bits(v if bare else v + <double>0)
        u = u ^ (<uint64_t>(<int64_t>u >> 63) | <uint64_t>0x8000000000000000)
        u = u if v == v else <uint64_t>0xffffffffffffffff
        return u ^ flip
    elif sortable is int64_t:
        return (<uint64_t>v ^ <uint64_t>0x8000000000000000) ^ flip
    else:
        return <uint64_t>((<uint32_t>v ^ <uint32_t>0x80000000) ^ <uint32_t>flip)

# The keys of n values, as wide as the values, in the order in which vectors compare them (ranks.pxi).
cdef inline void sort_keys(sort_word* key, const sortable* x, int64_t n, uint64_t flip, bint bare) noexcept nogil:
    cdef int64_t i
    cdef int32_t w
    cdef int32_t f
    if SORT_SIGNED: flip ^= <uint64_t>1 << (8 * sizeof(sort_word) - 1)
    f = <int32_t>flip
    if sort_word is uint32_t and sortable is float:
        if bare:
            for i in range(n):
                w = kf_bits(x[i])
                w = w ^ ((w >> 31) | <int32_t>0x80000000)
                key[i] = <uint32_t>((w if x[i] == x[i] else -1) ^ f)
        else:
            for i in range(n):
                w = kf_bits(x[i] + <float>0)
                w = w ^ ((w >> 31) | <int32_t>0x80000000)
                key[i] = <uint32_t>((w if x[i] == x[i] else -1) ^ f)
    else:
        for i in range(n): key[i] = <sort_word>sort_key(x[i], flip, bare)

# The value of a key: not the sign of a zero, nor which NaN.
cdef inline sortable sort_value(sortable like, uint64_t key, uint64_t flip) noexcept nogil:
    cdef uint64_t u = key ^ flip
    cdef uint32_t w = <uint32_t>u
    if sortable is float:
        w = w ^ ((<uint32_t>0x80000000) if w >> 31 else <uint32_t>0xffffffff)
        return kf_of(<int32_t>w)
    elif sortable is double:
        u = u ^ (<uint64_t>0x8000000000000000 if u >> 63 else <uint64_t>0xffffffffffffffff)
        return kd_of(<int64_t>u)
    elif sortable is int64_t:
        return <int64_t>(u ^ <uint64_t>0x8000000000000000)
    else:
        return <int32_t>(w ^ <uint32_t>0x80000000)

cdef inline uint64_t sort_bits(sort_item x) noexcept nogil:
    if sort_item is uint64_t: return x
    else: return x.key

cdef inline sort_item sort_make(sort_item like, uint64_t key, int64_t at, bint bare) noexcept nogil:
    cdef sort_item x
    if sort_item is uint64_t:
        return key if bare else (key << 32) | <uint64_t>at
    else:
        x.key = key
        x.at = at
        return x

cdef inline void sort_few(sort_item* a, int64_t m) noexcept nogil:
    cdef int64_t i, j
    cdef sort_item x
    for i in range(1, m):
        x = a[i]
        j = i
        while j > 0 and sort_bits(a[j - 1]) > sort_bits(x):
            a[j] = a[j - 1]
            j -= 1
        a[j] = x

# a[0..m) sorted, stably, by the bits of its items from `low` up; b is scratch.
cdef void sort_order(sort_item* a, sort_item* b, int64_t m, int low) noexcept nogil:
    cdef int64_t count[4 * SORT_BUCKETS]
    cdef uint64_t lo, hi, k, base
    cdef sort_item* src = a
    cdef sort_item* dst = b
    cdef sort_item x
    cdef int64_t i, j, sum, c
    cdef int high, want, cut, passes, w, p, shift
    cdef uint64_t mask
    if m <= SORT_FEW:
        sort_few(a, m)
        return
    lo = hi = sort_bits(a[0])
    for i in range(m):
        k = sort_bits(a[i])
        lo = k if k < lo else lo
        hi = k if k > hi else hi
    base = lo >> low << low
    high = sort_width(hi - base)
    if high <= low: return
    want = min(high - low, sort_width(<uint64_t>m) + 4)     # so many bits leave few keys equal, if they are spread
    cut = high - want
    w = 8 if m < 4096 else SORT_DIGIT
    passes = min((want + w - 1) // w, 4)
    w = min((want + passes - 1) // passes, SORT_DIGIT)
    cut = max(high - passes * w, low)
    mask = (<uint64_t>1 << w) - 1
    for i in range(passes << w): count[i] = 0
    if passes == 1:
        for i in range(m): count[((sort_bits(a[i]) - base) >> cut) & mask] += 1
    elif passes == 2:
        for i in range(m):
            k = (sort_bits(a[i]) - base) >> cut
            count[k & mask] += 1
            count[(<int64_t>1 << w) + ((k >> w) & mask)] += 1
    else:
        for i in range(m):
            k = (sort_bits(a[i]) - base) >> cut
            for p in range(passes):
                count[(<int64_t>p << w) + ((k >> (p * w)) & mask)] += 1
    for p in range(passes):
        shift = cut + p * w
        if count[(<int64_t>p << w) + <int64_t>(((sort_bits(src[0]) - base) >> shift) & mask)] == m: continue
        sum = 0
        for i in range(<int64_t>p << w, <int64_t>(p + 1) << w):
            c = count[i]
            count[i] = sum
            sum += c
        for i in range(m):
            x = src[i]
            j = (<int64_t>p << w) + <int64_t>(((sort_bits(x) - base) >> shift) & mask)
            dst[count[j]] = x
            count[j] += 1
        src, dst = dst, src
    if src != a: memcpy(a, src, m * sizeof(sort_item))
    if cut <= low: return
    i = 0                               # what these bits do not tell apart
    while i + 1 < m:
        k = (sort_bits(a[i]) - base) >> cut
        if (sort_bits(a[i + 1]) - base) >> cut != k:
            i += 1
            continue
        j = i + 2
        while j < m and (sort_bits(a[j]) - base) >> cut == k: j += 1
        sort_order(a + i, b + i, j - i, low)
        i = j

# Ranks [first, last) of sorted items go to `values` and `at`; rank: of a[0]; base: was taken off the keys.
cdef inline void sort_write(sortable* values, int64_t* at, const sortable* x, const sort_item* a, int64_t m, int64_t rank,
                            int64_t first, int64_t last, uint64_t base, uint64_t flip, bint bare) noexcept nogil:
    cdef int64_t i, p
    cdef int64_t lo = max(first - rank, <int64_t>0)
    cdef int64_t hi = min(last - rank, m)
    cdef sortable v
    values += rank - first
    if bare:
        for i in range(lo, hi): values[i] = sort_value(x[0], sort_bits(a[i]) + base, flip)
        return
    at += rank - first
    for i in range(lo, hi):
        if sort_item is uint64_t:
            p = <int64_t>(a[i] & <uint64_t>0xffffffff)
            v = sort_value(x[0], (a[i] >> 32) + base, flip)
        else:
            p = a[i].at
            v = sort_value(x[0], a[i].key + base, flip)
        at[i] = p
        if sortable is float or sortable is double:
            if not v < 0 and not v > 0: v = x[p]        # a zero or NaN: as it was
        values[i] = v

# ---------------------------------------------------------------- rows that fit the workspace, a row a unit

# Whether one of the next values may be among the first; t: the last of them.  NaN, as a value or as t, says yes.
cdef inline bint sort_hit(const sortable* x, sortable t, bint down) noexcept nogil:
    cdef int64_t j, c8 = 0
    cdef int32_t c4 = 0
    if sizeof(sortable) == 8:
        if down:
            for j in range(SORT_SEEN): c8 += x[j] <= t
        else:
            for j in range(SORT_SEEN): c8 += x[j] >= t
        return c8 != SORT_SEEN
    else:
        if down:
            for j in range(SORT_SEEN): c4 += x[j] <= t
        else:
            for j in range(SORT_SEEN): c4 += x[j] >= t
        return c4 != SORT_SEEN

cdef inline int64_t sort_place(sort_item x) noexcept nogil:
    if sort_item is uint64_t: return <int64_t>(x & <uint64_t>0xffffffff)
    else: return x.at

cdef inline void sort_first_of(sort_item* a, const sortable* x, int64_t lo, int64_t hi, int64_t k, int64_t* count, uint64_t base,
                               uint64_t flip, bint bare) noexcept nogil:
    cdef int64_t i, j, m = count[0]
    cdef sort_item t
    for i in range(lo, hi):
        t = sort_make(a[0], sort_key(x[i], flip, bare) - base, i, bare)
        if m == k:
            if sort_bits(t) >= sort_bits(a[k - 1]): continue
            j = k - 1
        else:
            j = m
            m += 1
        while j > 0 and sort_bits(a[j - 1]) > sort_bits(t):
            a[j] = a[j - 1]
            j -= 1
        a[j] = t
    count[0] = m

# The first k ranks, in order: most values are no more than compared with the last of them.  The first ten of 100 rows of 100
# doubles: 180 -> 83 us (Xeon)
cdef inline void sort_first(sort_item* a, const sortable* x, int64_t n, int64_t k, uint64_t base, uint64_t flip,
                            bint bare) noexcept nogil:
    cdef int64_t i = 0, j, end, m = 0
    cdef sort_item t
    while i < n:
        if m == k and not bare and i + SORT_SEEN <= n and not sort_hit(x + i, x[sort_place(a[k - 1])], flip != 0):
            i += SORT_SEEN
            continue
        end = min(i + SORT_SEEN, n)
        sort_first_of(a, x, i, end, k, &m, base, flip, bare)
        i = end

cdef inline void sort_row(sortable* values, int64_t* at, const sortable* x, int64_t n, int64_t first, int64_t last,
                          uint64_t base, int bits, uint64_t flip, sort_item* a, bint bare) noexcept nogil:
    cdef int64_t count[256]
    cdef int64_t i, m, rank
    cdef int64_t d, c, b0, b1
    cdef int shift = bits - 8 if bits > 8 else 0
    rank = 0
    m = 0
    if first == 0 and last <= SORT_FIRST and n > last:
        sort_first(a, x, n, last, base, flip, bare)
        sort_write(values, at, x, a, last, 0, 0, last, base, flip, bare)
        return
    if n <= 96 or (last - first) * 4 > n or bits == 0:
        for i in range(n): a[i] = sort_make(a[0], sort_key(x[i], flip, bare) - base, i, bare)
        m = n
    else:                               # few ranks are asked for: only the buckets that hold them
        for i in range(256): count[i] = 0
        for i in range(n): count[(sort_key(x[i], flip, bare) - base) >> shift] += 1
        b0 = -1
        b1 = 255
        c = 0
        for d in range(256):
            if b0 < 0 and c + count[d] > first:
                b0 = d
                rank = c
            c += count[d]
            if c >= last:
                b1 = d
                break
        for i in range(n):
            d = <int64_t>((sort_key(x[i], flip, bare) - base) >> shift)
            a[m] = sort_make(a[0], sort_key(x[i], flip, bare) - base, i, bare)
            m += b0 <= d <= b1
    sort_order(a, a + n + 1, m, 32 if sort_item is uint64_t and not bare else 0)
    sort_write(values, at, x, a, m, rank, first, last, base, flip, bare)

# Ranks by words of the highest 32 bits of a key and its position; what these bits do not tell apart is put right by insertion.
# Whether it was made: not where that is much, or pivots fail.
cdef inline bint sort_parted(sortable* values, int64_t* at, const sortable* x, int64_t n, int64_t first, int64_t last,
                             uint64_t base, int bits, uint64_t flip, uint64_t* a) noexcept nogil:
    cdef int64_t i, j, moved = 0
    cdef uint64_t k, w
    cdef int shift = bits - 32 if bits > 32 else 0
    for i in range(n):
        k = (sort_key(x[i], flip, False) - base) >> shift
        a[i] = (k << 32 | <uint64_t>i) ^ <uint64_t>0x8000000000000000       # compared with its sign
    if sort_parts8(a, a + n + 16, n, 40) == 0: return False
    if shift != 0:
        for i in range(1, n):
            w = a[i]
            if (w ^ a[i - 1]) >> 32 != 0: continue
            k = sort_key(x[w & <uint64_t>0xffffffff], flip, False)
            j = i
            while j > 0 and (w ^ a[j - 1]) >> 32 == 0 and sort_key(x[a[j - 1] & <uint64_t>0xffffffff], flip, False) > k:
                a[j] = a[j - 1]
                j -= 1
            a[j] = w
            moved += i - j
            if moved > n: return False
    for i in range(first, last):
        j = <int64_t>(a[i] & <uint64_t>0xffffffff)
        values[i - first] = x[j]
        at[i - first] = j
    return True

# The first NaN of a row, if it has one: its median.
cdef inline bint sort_missing(const sortable* x, int64_t n, sortable* value, int64_t* at) noexcept nogil:
    cdef int64_t i, e, c8
    cdef int32_t c4
    if sortable is float or sortable is double:
        i = 0
        while i < n:
            e = min(n, i + 64)
            c8 = c4 = 0
            if sortable is double:
                for i in range(i, e): c8 += x[i] != x[i]
            else:
                for i in range(i, e): c4 += x[i] != x[i]
            i = e
            if c8 != 0 or c4 != 0:
                i -= 64 if e % 64 == 0 else e % 64
                while x[i] == x[i]: i += 1
                value[0] = x[i]
                at[0] = i
                return True
    return False

# Ranks by counting: where each value goes.
cdef inline void sort_ranked(sortable* values, int64_t* at, const sortable* x, int64_t n, int64_t first, int64_t last,
                             const sort_word* rank) noexcept nogil:
    cdef uint8_t order[SORT_RANKED]
    cdef int64_t i, r
    if last - first == n and at != NULL:
        for i in range(n):
            r = <int64_t>rank[i]
            values[r] = x[i]
            at[r] = i
        return
    for i in range(n): order[rank[i]] = <uint8_t>i      # no branch: which ranks are wanted no processor foresees
    for i in range(first, last):
        values[i - first] = x[order[i]]
        if at != NULL: at[i - first] = order[i]

# Ranks of more than SORT_HALVED keys of 64 bits by their upper halves, then put right by insertion, unless too many are out of
# place: 10 rows of 100 doubles 6.4 -> 4.9 us (Xeon, AVX-512).
cdef inline void sort_rank_long(const uint64_t* key, uint64_t* rank, int64_t n) noexcept nogil:
    cdef uint32_t half[SORT_RANKED + 16]
    cdef uint32_t place[SORT_RANKED + 16]
    cdef uint8_t order[SORT_RANKED]
    cdef int64_t i, j, moved = 0
    cdef uint8_t o
    if n > SORT_HALVED and not SORT_SIGNED:
        for i in range(n): half[i] = <uint32_t>(key[i] >> 32)
        sort_rank4(half, place, n)
        for i in range(n): order[place[i]] = <uint8_t>i
        for i in range(1, n):
            o = order[i]
            j = i
            while j > 0 and key[order[j - 1]] > key[o]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = o
            moved += i - j
            if moved > 2 * n: break
        if moved <= 2 * n:
            for i in range(n): rank[order[i]] = <uint64_t>i
            return
    sort_rank8(key, rank, n)

cdef void sort_ranked_rows(sortable* values, const sortable* x, const Instr* I, int64_t lo, int64_t hi,
                           sort_word* key) noexcept nogil:
    cdef sort_word rank[SORT_RANKED + 16]
    cdef int64_t n = I.shape[1]
    cdef int64_t first = I.c[0].i
    cdef int64_t last = I.c[1].i
    cdef int64_t width = last - first
    cdef int64_t block = max(SORT_KEYS // (n * <int64_t>sizeof(sort_word)), 1)
    cdef int64_t r, e, k
    cdef int64_t* at = <int64_t*>I.arg[1].data
    while lo < hi:
        e = min(hi, lo + block)
        sort_keys(key, x + lo * n, (e - lo) * n, <uint64_t>I.c[2].i, at == NULL)
        for r in range(lo, e):
            k = (r - lo) * n
            if I.c[3].i != 0 and sort_missing(x + r * n, n, values + r, at + r): continue
            if sort_word is uint32_t: sort_rank4(key + k, rank, n)
            else: sort_rank_long(key + k, rank, n)
            sort_ranked(values + r * width, at + r * width if at != NULL else at, x + r * n, n, first, last, rank)
        lo = e

# The first of rows by the least that is left; few enough for it to be faster than all ranks.
cdef inline bint sort_least_pays(int64_t n, int64_t first, int64_t last, int64_t item) noexcept nogil:
    cdef int64_t vectors = (n * item + 63) // 64
    return SORT_LEASTS and first == 0 and last <= SORT_FIRST and last * (3 * vectors + SORT_LEASTS) < 2 * n * vectors

cdef void sort_least_rows(sortable* values, const sortable* x, const Instr* I, int64_t lo, int64_t hi,
                          sort_word* key) noexcept nogil:
    cdef uint8_t order[SORT_FIRST]
    cdef int64_t n = I.shape[1], last = I.c[1].i, r, i
    cdef int64_t* at = <int64_t*>I.arg[1].data
    for r in range(lo, hi):
        if I.c[3].i != 0 and sort_missing(x + r * n, n, values + r, at + r): continue
        sort_keys(key, x + r * n, n, <uint64_t>I.c[2].i, at == NULL)
        if sort_word is uint32_t: sort_least4(key, n, last, order)
        else: sort_least8(key, n, last, order)
        for i in range(last): values[r * last + i] = x[r * n + order[i]]
        if at != NULL:
            for i in range(last): at[r * last + i] = order[i]

cdef void sort_one_rank(sortable* values, const sortable* x, const Instr* I, int64_t lo, int64_t hi,
                        sort_word* key) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef sort_word* a = key + (n + 15) // 16 * 16
    cdef sort_word* b = a + (n + 31) // 16 * 16
    cdef int64_t* at = <int64_t*>I.arg[1].data
    cdef int64_t r, k
    for r in range(lo, hi):
        if I.c[3].i != 0 and sort_missing(x + r * n, n, values + r, at + r): continue
        sort_keys(key, x + r * n, n, <uint64_t>I.c[2].i, False)
        if sort_word is uint32_t: k = sort_select4(key, a, b, n, I.c[0].i)
        else: k = sort_select8(key, a, b, n, I.c[0].i)
        values[r] = x[r * n + k]
        at[r] = k

cdef int sort_rows_of(sortable* values, const sortable* x, const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef int64_t n = I.shape[1]
    cdef int64_t first = I.c[0].i
    cdef int64_t last = I.c[1].i
    cdef int64_t width = last - first
    cdef uint64_t flip = <uint64_t>I.c[2].i
    cdef int64_t* at = <int64_t*>I.arg[1].data
    cdef bint bare = at == NULL
    cdef int64_t r, i
    cdef uint64_t least, most, k
    cdef int bits
    if SORT_SELECTS and width == 1 and not bare and n > 16:
        if sizeof(sortable) == 4: sort_one_rank(values, x, I, lo, hi, <uint32_t*>ws)
        else: sort_one_rank(values, x, I, lo, hi, <uint64_t*>ws)
        return ST_OK
    if 1 < n <= SORT_RANKED and sort_least_pays(n, first, last, sizeof(sortable)):
        if sizeof(sortable) == 4: sort_least_rows(values, x, I, lo, hi, <uint32_t*>ws)
        else: sort_least_rows(values, x, I, lo, hi, <uint64_t*>ws)
        return ST_OK
    if 1 < n <= min(8 * SORT_LANES, SORT_RANKED):
        if sizeof(sortable) == 4: sort_ranked_rows(values, x, I, lo, hi, <uint32_t*>ws)
        else: sort_ranked_rows(values, x, I, lo, hi, <uint64_t*>ws)
        return ST_OK
    for r in range(lo, hi):
        if I.c[3].i != 0 and sort_missing(x + r * n, n, values + r, at + r): continue
        if first == 0 and last <= SORT_FIRST and n > last and not bare:     # no need of the span of the keys
            if sizeof(sortable) == 4:
                sort_row(values + r * last, at + r * last, x + r * n, n, 0, last, 0, 32, flip, <uint64_t*>ws, False)
            else:
                sort_row(values + r * last, at + r * last, x + r * n, n, 0, last, 0, 64, flip, <SortPair*>ws, False)
            continue
        least = most = sort_key(x[r * n], flip, bare)
        for i in range(n):
            k = sort_key(x[r * n + i], flip, bare)
            least = k if k < least else least
            most = k if k > most else most
        bits = sort_width(most - least)
        if sort_counted(values + r * n, at + r * n, x + r * n, n, width, least, bits, flip, bare): continue
        if (SORT_PARTS and not bare and 4 * width > n
                and sort_parted(values + r * width, at + r * width, x + r * n, n, first, last, least, bits, flip, <uint64_t*>ws)):
            continue
        if bare:
            sort_row(values + r * width, at, x + r * n, n, first, last, least, bits, flip, <uint64_t*>ws, True)
        elif bits <= 32:
            sort_row(values + r * width, at + r * width, x + r * n, n, first, last, least, bits, flip,
                     <uint64_t*>ws, False)
        else:
            sort_row(values + r * width, at + r * width, x + r * n, n, first, last, least, bits, flip,
                     <SortPair*>ws, False)
    return ST_OK

cdef int sort_rows_in(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: return sort_rows_of(<float*>I.arg[0].data, <const float*>I.arg[2].data, I, lo, hi, ws)
    if I.dtype == DT_F64: return sort_rows_of(<double*>I.arg[0].data, <const double*>I.arg[2].data, I, lo, hi, ws)
    if I.dtype == DT_I64: return sort_rows_of(<int64_t*>I.arg[0].data, <const int64_t*>I.arg[2].data, I, lo, hi, ws)
    if I.dtype == DT_I32: return sort_rows_of(<int32_t*>I.arg[0].data, <const int32_t*>I.arg[2].data, I, lo, hi, ws)
    return ST_UNSUPPORTED

# x [outer, n, inner], results [outer, last - first, inner]: a column, or a row if inner is 1, a unit.  Some columns at a time are
# turned into rows, in the last c[4] bytes of the workspace.  The first 3 of 10 columns of 100 doubles, turned as a whole before:
# 9.1 -> 2.7 us (Xeon)
cdef int sort_rows(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef Instr J
    cdef int64_t n = I.shape[1], inner = I.shape[2], width = I.c[1].i - I.c[0].i, o, j, w
    cdef int64_t item = 4 if I.dtype == DT_F32 or I.dtype == DT_I32 else 8
    cdef bint bare = I.arg[1].data == NULL
    if inner == 1: return sort_rows_in(I, lo, hi, ws)
    J = I[0]
    if not bare: J.arg[1].data = ws + (I.workspace - I.c[4].i)
    J.arg[2].data = ws + (I.workspace - I.c[4].i + SORT_COLUMNS * width * 8)
    J.arg[0].data = J.arg[2].data + SORT_COLUMNS * n * item
    while lo < hi:
        o = lo // inner
        j = lo % inner
        w = min(min(hi - lo, inner - j), <int64_t>SORT_COLUMNS)
        if item == 4: fbp_across4(<uint32_t*>J.arg[2].data, n, <const uint32_t*>I.arg[2].data + o * n * inner + j, inner, w, n)
        else: fbp_across8(<uint64_t*>J.arg[2].data, n, <const uint64_t*>I.arg[2].data + o * n * inner + j, inner, w, n)
        if sort_rows_in(&J, 0, w, ws) != ST_OK: return ST_UNSUPPORTED
        j += o * width * inner
        if item == 4: fbp_across4(<uint32_t*>I.arg[0].data + j, inner, <const uint32_t*>J.arg[0].data, width, width, w)
        else: fbp_across8(<uint64_t*>I.arg[0].data + j, inner, <const uint64_t*>J.arg[0].data, width, width, w)
        if not bare: fbp_across8(<uint64_t*>I.arg[1].data + j, inner, <const uint64_t*>J.arg[1].data, width, width, w)
        lo += w
    return ST_OK

# ---------------------------------------------------------------- a long row, in steps; operands: values, positions, x,
# items, scratch items, counts [SORT_BLOCKS, SORT_BUCKETS], plan

cdef inline int64_t sort_cut(const Instr* I, int64_t block) noexcept nogil:
    return min(I.shape[1], (I.shape[1] + SORT_BLOCKS - 1) // SORT_BLOCKS * block)

cdef void sort_span_of(const sortable* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef uint64_t* plan = <uint64_t*>I.arg[6].data
    cdef uint64_t flip = <uint64_t>I.c[2].i
    cdef bint bare = I.arg[1].data == NULL
    cdef int64_t b, i
    cdef uint64_t least, most, k
    for b in range(lo, hi):
        least = <uint64_t>0xffffffffffffffff
        most = 0
        for i in range(sort_cut(I, b), sort_cut(I, b + 1)):
            k = sort_key(x[i], flip, bare)
            least = k if k < least else least
            most = k if k > most else most
        plan[SP_SPAN + 2 * b] = least
        plan[SP_SPAN + 2 * b + 1] = most

cdef int sort_span(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sort_span_of(<const float*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_F64: sort_span_of(<const double*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_I64: sort_span_of(<const int64_t*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_I32: sort_span_of(<const int32_t*>I.arg[2].data, I, lo, hi)
    else: return ST_UNSUPPORTED
    return ST_OK

cdef int sort_begin(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef uint64_t* plan = <uint64_t*>I.arg[6].data
    cdef uint64_t least = plan[SP_SPAN]
    cdef uint64_t most = plan[SP_SPAN + 1]
    cdef int b
    for b in range(1, SORT_BLOCKS):
        least = min(least, plan[SP_SPAN + 2 * b])
        most = max(most, plan[SP_SPAN + 2 * b + 1])
    plan[SP_BASE] = least
    plan[SP_BITS] = sort_width(most - least)
    if I.arg[1].data == NULL: plan[SP_FORM] = SORT_BARE
    elif plan[SP_BITS] <= 32 and I.shape[1] >> 32 == 0: plan[SP_FORM] = SORT_WORD
    else: plan[SP_FORM] = SORT_PAIR
    return ST_OK

cdef inline int sort_shift(const uint64_t* plan) noexcept nogil:
    return <int>plan[SP_BITS] - SORT_DIGIT if plan[SP_BITS] > SORT_DIGIT else 0

cdef void sort_count_of(const sortable* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const uint64_t* plan = <const uint64_t*>I.arg[6].data
    cdef uint64_t flip = <uint64_t>I.c[2].i
    cdef bint bare = I.arg[1].data == NULL
    cdef uint64_t base = plan[SP_BASE]
    cdef int shift = sort_shift(plan)
    cdef int64_t b, i
    cdef int64_t* count
    for b in range(lo, hi):
        count = <int64_t*>I.arg[5].data + b * SORT_BUCKETS
        for i in range(SORT_BUCKETS): count[i] = 0
        for i in range(sort_cut(I, b), sort_cut(I, b + 1)): count[(sort_key(x[i], flip, bare) - base) >> shift] += 1

cdef int sort_count(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sort_count_of(<const float*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_F64: sort_count_of(<const double*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_I64: sort_count_of(<const int64_t*>I.arg[2].data, I, lo, hi)
    else: sort_count_of(<const int32_t*>I.arg[2].data, I, lo, hi)
    return ST_OK

# Counts become places; the buckets that hold the ranks asked for are chosen.
cdef int sort_plan(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    cdef uint64_t* plan = <uint64_t*>I.arg[6].data
    cdef int64_t* count = <int64_t*>I.arg[5].data
    cdef int64_t d, b, c, total
    cdef int64_t rank = 0
    cdef int64_t place = 0
    cdef int64_t b0 = -1
    cdef int64_t b1 = SORT_BUCKETS - 1
    for d in range(SORT_BUCKETS):
        plan[SP_START + d] = place
        total = 0
        for b in range(SORT_BLOCKS): total += count[b * SORT_BUCKETS + d]
        if b0 < 0:
            if rank + total > I.c[0].i:
                b0 = d
                plan[SP_RANK] = rank
            else:
                rank += total
                continue
        if d > b1: continue
        for b in range(SORT_BLOCKS):
            c = count[b * SORT_BUCKETS + d]
            count[b * SORT_BUCKETS + d] = place
            place += c
        rank += total
        if rank >= I.c[1].i: b1 = min(b1, d)
    plan[SP_START + SORT_BUCKETS] = place
    for d in range(b1 + 1, SORT_BUCKETS): plan[SP_START + d] = place
    plan[SP_FIRST] = b0
    plan[SP_LAST] = b1
    return ST_OK

cdef inline void sort_scatter_into(sort_item* a, const sortable* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    cdef const uint64_t* plan = <const uint64_t*>I.arg[6].data
    cdef uint64_t flip = <uint64_t>I.c[2].i
    cdef bint bare = I.arg[1].data == NULL
    cdef uint64_t base = plan[SP_BASE]
    cdef uint64_t k
    cdef int shift = sort_shift(plan)
    cdef uint64_t b0 = plan[SP_FIRST]
    cdef uint64_t width = <uint64_t>plan[SP_LAST] - b0
    cdef int64_t b, i, d
    cdef int64_t* place
    for b in range(lo, hi):
        place = <int64_t*>I.arg[5].data + b * SORT_BUCKETS
        if width == <uint64_t>(SORT_BUCKETS - 1):
            for i in range(sort_cut(I, b), sort_cut(I, b + 1)):
                k = sort_key(x[i], flip, bare) - base
                d = <int64_t>(k >> shift)
                a[place[d]] = sort_make(a[0], k, i, bare)
                place[d] += 1
        else:
            for i in range(sort_cut(I, b), sort_cut(I, b + 1)):
                k = sort_key(x[i], flip, bare) - base
                if <uint64_t>((k >> shift) - b0) <= width:
                    d = <int64_t>(k >> shift)
                    a[place[d]] = sort_make(a[0], k, i, bare)
                    place[d] += 1

cdef void sort_scatter_of(const sortable* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    if (<const uint64_t*>I.arg[6].data)[SP_FORM] == SORT_PAIR:
        sort_scatter_into(<SortPair*>I.arg[3].data, x, I, lo, hi)
    else:
        sort_scatter_into(<uint64_t*>I.arg[3].data, x, I, lo, hi)

cdef int sort_scatter(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sort_scatter_of(<const float*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_F64: sort_scatter_of(<const double*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_I64: sort_scatter_of(<const int64_t*>I.arg[2].data, I, lo, hi)
    else: sort_scatter_of(<const int32_t*>I.arg[2].data, I, lo, hi)
    return ST_OK

# Unit u has the buckets that begin in its part of all that is to be sorted.
cdef inline void sort_buckets_in(sort_item* a, sort_item* b, sortable* values, const sortable* x, const Instr* I, int64_t lo,
                                 int64_t hi) noexcept nogil:
    cdef const uint64_t* plan = <const uint64_t*>I.arg[6].data
    cdef const int64_t* start = <const int64_t*>plan + SP_START
    cdef bint bare = I.arg[1].data == NULL
    cdef int64_t total = start[SORT_BUCKETS]
    cdef int64_t part = (total + SORT_UNITS - 1) // SORT_UNITS
    cdef int64_t d, s, e
    for d in range(<int64_t>plan[SP_FIRST], <int64_t>plan[SP_LAST] + 1):
        s = start[d]
        e = start[d + 1]
        if e == s or s < lo * part or s >= hi * part: continue
        sort_order(a + s, b + s, e - s, 32 if sort_item is uint64_t and not bare else 0)
        sort_write(values, <int64_t*>I.arg[1].data, x, a + s, e - s, <int64_t>plan[SP_RANK] + s, I.c[0].i, I.c[1].i,
                   plan[SP_BASE], <uint64_t>I.c[2].i, bare)

cdef void sort_buckets_of(sortable* values, const sortable* x, const Instr* I, int64_t lo, int64_t hi) noexcept nogil:
    if (<const uint64_t*>I.arg[6].data)[SP_FORM] == SORT_PAIR:
        sort_buckets_in(<SortPair*>I.arg[3].data, <SortPair*>I.arg[4].data, values, x, I, lo, hi)
    else:
        sort_buckets_in(<uint64_t*>I.arg[3].data, <uint64_t*>I.arg[4].data, values, x, I, lo, hi)

cdef int sort_buckets(const Instr* I, int64_t lo, int64_t hi, char* ws) noexcept nogil:
    if I.dtype == DT_F32: sort_buckets_of(<float*>I.arg[0].data, <const float*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_F64: sort_buckets_of(<double*>I.arg[0].data, <const double*>I.arg[2].data, I, lo, hi)
    elif I.dtype == DT_I64: sort_buckets_of(<int64_t*>I.arg[0].data, <const int64_t*>I.arg[2].data, I, lo, hi)
    else: sort_buckets_of(<int32_t*>I.arg[0].data, <const int32_t*>I.arg[2].data, I, lo, hi)
    return ST_OK

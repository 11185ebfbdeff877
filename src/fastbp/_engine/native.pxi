# Native: neighbouring strips of a group as one loop of machine code, in which values go from strip to strip in registers.
#
# A strip loads its operands from L1 and stores its result there: two cycles a vector, ten strips twenty.  Where the table knows a
# strip as steps over registers (_generated/microcode.pxi: arithmetic, comparisons, choices), a run of such strips is written here
# as one loop that loads each array once and stores what somebody else reads.  Ten operations over 1e6 float32: 353 us by
# strips, 100 us so, 99 us to read and write the arrays once (benchmarks/bench_replay.py).  No compiler is involved: the steps
# are encoded one by one, in about 10 us a strip.  Bits are those of the strips (tests/test_native.py, and compile's self-check).
#
# Instructions are written in one of two encodings: EVEX for AVX-512 (vectors of 64 bytes, 32 of them, masks in registers of
# their own), VEX for AVX2 (32 bytes, 16, masks are vectors).  Only on x86-64 under Linux or macOS; elsewhere, with
# FASTBP_NATIVE=0, or where the system forbids executable memory, the strips run as they are.  Memory is never writable and
# executable at once.

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__linux__) || defined(__APPLE__))
    #include <sys/mman.h>
    static void* fbp_code_open(size_t n) {
        void* p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    static int fbp_code_seal(void* p, size_t n) { return mprotect(p, n, PROT_READ | PROT_EXEC); }
    static void fbp_code_close(void* p, size_t n) { munmap(p, n); }
    #define FBP_CODE 1
    #else
    #define FBP_CODE 0
    static void* fbp_code_open(size_t n) { (void)n; return NULL; }
    static int fbp_code_seal(void* p, size_t n) { (void)p; (void)n; return -1; }
    static void fbp_code_close(void* p, size_t n) { (void)p; (void)n; }
    #endif
    """
    int FBP_CODE            # whether there may be machine code at all
    void* fbp_code_open(size_t n) noexcept nogil
    int fbp_code_seal(void* p, size_t n) noexcept nogil
    void fbp_code_close(void* p, size_t n) noexcept nogil

# at: addresses of the arrays and constants; lo, bytes: from where, how much; ws: the thread's workspace
ctypedef void (*Native)(char** at, int64_t lo, int64_t bytes, char* ws) noexcept nogil

cdef enum:
    N_POINTER = 10      # general registers for arrays
    MAXSTEPS = 64       # steps of a strip

cdef int POINTER[N_POINTER]     # r8-r11, then those that the caller wants back: rbx, rbp, r12-r15
POINTER[:] = [8, 9, 10, 11, 3, 5, 12, 13, 14, 15]

cdef bint EVEX = _isa == "avx512"
cdef int VECTOR = 64 if EVEX else 32    # bytes
cdef int HIGHEST = 31 if EVEX else 14   # the vector register of the first constant
cdef int TAIL = 7 if EVEX else 15       # the mask of the last, shorter vector: k7, or a vector
cdef int32_t LANES[16]                  # all bits of a vector, none of another: `left` bytes before the second begins a mask
LANES[:] = [-1] * 8 + [0] * 8

cdef bint CAN_WRITE = FBP_CODE and _isa != "base"
cdef bint NATIVE = CAN_WRITE and os.environ.get("FASTBP_NATIVE", "1") != "0"


def _set_native(bint wanted):
    """Whether programs linked from now on may hold machine code.  Returns: whether they might before."""
    global NATIVE
    before = NATIVE
    NATIVE = wanted and CAN_WRITE
    return before


cdef class Loop:
    """The machine code of one run of strips while it is written."""
    cdef bytearray code
    cdef Program p
    cdef Py_ssize_t begin, end      # the strips
    cdef bint wide                  # float64
    cdef list table                 # what the code finds at `at`: (kind, ...)
    cdef dict pointers              # (slot, offset) -> general register
    cdef dict broadcasts            # what -> vector register, from HIGHEST downwards
    cdef dict last                  # (slot, offset) -> last strip that reads it
    cdef int top                    # vector registers in use, at most
    cdef uint32_t free              # vector registers, a bit each
    cdef int masks                  # mask registers, likewise

    # ---- bytes ------------------------------------------------------------------------------------------------------

    cdef put(self, bytes some):
        self.code += some

    cdef vector(self, int map, int op, int reg, int v, int rm, int mask=0):
        """An instruction between registers.  mask: which lanes of a choice (a mask register, with VEX a vector)."""
        cdef int pp = 1 if map > 1 or self.wide else 0          # 66: pd instead of ps, and all of the later maps
        if EVEX:
            self.code += bytes((0x62, (~reg >> 3 & 1) << 7 | (~rm >> 4 & 1) << 6 | (~rm >> 3 & 1) << 5 | (~reg >> 4 & 1) << 4
                                | map, self.wide << 7 | (~v & 15) << 3 | 4 | pp, 0x40 | (~v >> 4 & 1) << 3 | mask, op,
                                0xC0 | (reg & 7) << 3 | (rm & 7)))
        else:
            self.code += bytes((0xC4, (~reg >> 3 & 1) << 7 | 0x40 | (~rm >> 3 & 1) << 5 | map,
                                (self.wide and map < 3) << 7 | (~v & 15) << 3 | 4 | pp, op, 0xC0 | (reg & 7) << 3 | (rm & 7)))
            if map == 3:
                self.code.append(mask << 4)

    cdef memory(self, bint store, int reg, int base, bint tail):
        """A load or store of a vector at base + rax.  tail: only of the lanes that TAIL names; a load has zeros in the others."""
        cdef int op = 0x10 | store
        if EVEX:
            self.code += bytes((0x62, (~reg >> 3 & 1) << 7 | 0x40 | (~base >> 3 & 1) << 5 | (~reg >> 4 & 1) << 4 | 1,
                                self.wide << 7 | 0x7C | self.wide, (tail and not store) << 7 | 0x48 | (TAIL if tail else 0), op))
        elif tail:
            op = 0x2C | store << 1 | self.wide
            self.code += bytes((0xC4, (~reg >> 3 & 1) << 7 | 0x40 | (~base >> 3 & 1) << 5 | 2, (~TAIL & 15) << 3 | 5, op))
        else:
            self.code += bytes((0xC4, (~reg >> 3 & 1) << 7 | 0x40 | (~base >> 3 & 1) << 5 | 1, 0x7C | self.wide, op))
        self.code += bytes((0x44 | (reg & 7) << 3, base & 7, 0))

    cdef broadcast(self, int reg, int base, int at):
        """A vector of the number `at` bytes behind base (rax: 0, rdi: 7)."""
        if EVEX:
            self.code += bytes((0x62, (~reg >> 3 & 1) << 7 | 0x60 | (~reg >> 4 & 1) << 4 | 2, self.wide << 7 | 0x7D, 0x48))
        else:
            self.code += bytes((0xC4, (~reg >> 3 & 1) << 7 | 0x62, 0x7D))
        self.code += bytes((0x18 | self.wide, 0x80 | (reg & 7) << 3 | base)) + at.to_bytes(4, "little")

    # ---- registers --------------------------------------------------------------------------------------------------

    cdef int take(self) except -1:
        cdef int r
        for r in range(HIGHEST + 1):
            if self.free >> r & 1:
                self.free &= ~(<uint32_t>1 << r)
                if r > self.top:
                    self.top = r
                return r
        raise OverflowError("registers")

    cdef int take_mask(self) except -1:
        cdef int r
        for r in range(1, 7):
            if self.masks >> r & 1:
                self.masks &= ~(1 << r)
                return r
        raise OverflowError("masks")

    cdef int constant(self, what) except -1:
        """The register that holds a number in every lane.  what: ("bits", pattern), or ("number", address of it)."""
        if what not in self.broadcasts:
            self.broadcasts[what] = HIGHEST - len(self.broadcasts)
            if len(self.broadcasts) > HIGHEST - 6:
                raise OverflowError("constants")
        return self.broadcasts[what]

    cdef int pointer(self, tuple key) except -1:
        if key not in self.pointers:
            if len(self.pointers) == N_POINTER:
                raise OverflowError("pointers")
            self.pointers[key] = POINTER[<int>len(self.pointers)]
        return self.pointers[key]

    # ---- the loop's body --------------------------------------------------------------------------------------------

    cdef int bits(self, uint64_t one, uint64_t two) except -1:
        """The register that holds a pattern of bits in every lane: of float32, of float64."""
        return self.constant(("bits", two if self.wide else one))

    cdef compare(self, int code, int to, int a, int b):
        """A mask: a comparison of vectors, or masks joined."""
        if code == M_AND or code == M_OR:
            if EVEX:                                # VEX kandw, korw
                self.put(bytes((0xC5, 0x84 | (~a & 15) << 3, 0x41 if code == M_AND else 0x45, 0xC0 | to << 3 | b)))
            else:
                self.vector(1, 0x54 if code == M_AND else 0x56, to, a, b)
        elif code == M_NOT:
            if EVEX:
                self.put(bytes((0xC5, 0xF8, 0x44, 0xC0 | to << 3 | a)))
            else:
                self.vector(1, 0x57, to, a, self.bits(0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
        else:
            self.vector(1, 0xC2, to, a, b)
            self.put(bytes((PREDICATE[code - M_EQ],)))

    cdef body(self, dict blocks, bint tail):
        """One vector of all strips.  tail: the last, shorter one."""
        cdef Py_ssize_t k
        cdef int i, j, first, count, code, reg, out, strip
        cdef const unsigned char* m
        cdef int at[MAXSTEPS]       # the register of each step
        cdef int until[MAXSTEPS]    # the last step that reads it
        cdef bint own[MAXSTEPS]     # whether it is this strip's to give back
        cdef Step* s
        cdef Slot* t
        cdef dict where = {}        # (slot, offset) -> the vector register that holds it
        self.free = (<uint32_t>2 << HIGHEST) - 1
        self.masks = 0x7E
        for k in range(self.begin, self.end):
            s = &self.p.steps[k]
            strip = strip_number(s.strip) >> 2
            first = FBP_MICRO_AT[strip]
            count = FBP_MICRO_AT[strip + 1] - first
            for i in range(count):
                m = &FBP_MICRO[4 * (first + i)]
                until[i] = i
                own[i] = False
                if m[0] > M_LITERAL:
                    for j in range(1, step_reads(m[0]) + 1):
                        until[m[j]] = i
            for i in range(count):
                m = &FBP_MICRO[4 * (first + i)]
                code = m[0]
                if code == M_OPERAND:
                    j = m[1] + 1
                    if s.slot[j] < 0:
                        at[i] = self.constant(("number", blocks[k, j]))
                        continue
                    key = (s.slot[j], s.offset[j])
                    if key not in where:
                        reg = self.pointer(key)
                        where[key] = self.take()
                        self.memory(False, where[key], reg, tail)
                    at[i] = where[key]
                    continue
                if code == M_CONSTANT:
                    at[i] = self.constant(("bits", self.pattern(s.c[m[1]].f if s.c != NULL else 0)))
                    continue
                if code == M_LITERAL:
                    at[i] = self.constant(("bits", self.pattern(FBP_LITERAL[m[1]])))
                    continue
                own[i] = not EVEX or code < M_EQ
                reg = self.take() if own[i] else self.take_mask()
                at[i] = reg
                if code >= M_EQ:
                    self.compare(code, reg, at[m[1]], at[m[2]])
                elif code == M_NEG:
                    self.vector(1, 0x57, reg, at[m[1]], self.bits(1 << 31, <uint64_t>1 << 63))
                elif code == M_ABS:
                    self.vector(1, 0x54, reg, at[m[1]], self.bits((1 << 31) - 1, (<uint64_t>1 << 63) - 1))
                elif code == M_SQRT:
                    self.vector(1, 0x51, reg, 0, at[m[1]])
                elif code == M_FMA or code == M_FMS or code == M_FNMA:
                    self.vector(1, 0x28, reg, 0, at[m[3]])
                    self.vector(2, 0xB8 if code == M_FMA else 0xBA if code == M_FMS else 0xBC, reg, at[m[1]], at[m[2]])
                elif code == M_SELECT:
                    self.vector(2 if EVEX else 3, 0x65 if EVEX else 0x4A | self.wide, reg, at[m[3]], at[m[2]], at[m[1]])
                else:
                    self.vector(1, 0x58 if code == M_ADD else 0x5C if code == M_SUB else 0x59 if code == M_MUL else 0x5E,
                                reg, at[m[1]], at[m[2]])
                for j in range(1, step_reads(code) + 1):       # what is read for the last time
                    if until[m[j]] == i:
                        until[m[j]] = -1
                        if own[m[j]]:
                            self.free |= <uint32_t>1 << at[m[j]]
                        elif FBP_MICRO[4 * (first + m[j])] >= M_EQ:
                            self.masks |= 1 << at[m[j]]
            reg = at[count - 1]
            if not own[count - 1]:
                out = reg
                reg = self.take()
                self.vector(1, 0x28, reg, 0, out)
            key = (s.slot[0], s.offset[0])
            t = &self.p.slots[s.slot[0]]
            if t.kind != S_LOCAL or t.last >= self.end:
                self.memory(True, reg, self.pointer(key), tail)
            if key in where:
                self.free |= <uint32_t>1 << <int>where[key]
            where[key] = reg
            for key in [key for key in where if self.last.get(key, -1) <= k]:
                self.free |= <uint32_t>1 << <int>where.pop(key)

    cdef object pattern(self, double x):
        """The bits of a constant in the loop's dtype."""
        cdef float f = <float>x
        cdef uint64_t bits = 0
        if self.wide:
            memcpy(&bits, &x, 8)
        else:
            memcpy(&bits, &f, 4)
        return bits

    # ---- the whole --------------------------------------------------------------------------------------------------

    cdef bytes compiled(self, dict blocks):
        """The function, a `Native`; `table` is then what it expects at `at`.  blocks: addresses of numbers, by operand."""
        cdef Py_ssize_t k, enough, loop, leave
        cdef int j, r, base, at
        cdef Step* s
        self.last = {}
        for k in range(self.begin, self.end):
            s = &self.p.steps[k]
            for j in range(1, s.narg):
                if s.slot[j] >= 0:
                    self.last[s.slot[j], s.offset[j]] = k
        self.pointers, self.broadcasts, self.top = {}, {}, 0
        self.code = bytearray()
        self.body(blocks, False)        # once for the registers that it needs
        if self.top + len(self.broadcasts) > HIGHEST:
            raise OverflowError("registers")
        self.code = bytearray()
        self.table = [("array", *key) for key in self.pointers] + list(self.broadcasts)
        if not EVEX:
            self.table.append(("bits", <size_t>&LANES[0]))
        for k in range(4, len(self.pointers)):
            self.put(bytes((0x50 + POINTER[k],)) if POINTER[k] < 8 else bytes((0x41, 0x48 + POINTER[k])))           # push
        for k in range(len(self.pointers)):
            r = POINTER[k]
            self.put(bytes((0x4C if r > 7 else 0x48, 0x8B, 0x87 | (r & 7) << 3)) + (<int>(8 * k)).to_bytes(4, "little"))
            base = 1 if self.p.slots[<int>(<tuple>self.table[k])[1]].kind == S_LOCAL else 6     # + rcx, the workspace; + rsi, lo
            self.put(bytes((0x49 if r > 7 else 0x48, 0x01, 0xC0 | base << 3 | (r & 7))))
        for what, reg in self.broadcasts.items():
            at = 8 * (len(self.pointers) + HIGHEST - reg)
            if what[0] == "number":
                self.put(b"\x48\x8B\x87" + at.to_bytes(4, "little"))                    # rax = its address
                self.broadcast(reg, 0, 0)
            else:
                self.broadcast(reg, 7, at)
        self.put(b"\x48\x89\xD6\x48\x83\xE6" + bytes((256 - VECTOR,))                 # rsi = bytes & -VECTOR
                 + b"\x31\xC0\x48\x39\xF0\x0F\x83")                                  # rax = 0; none whole?
        enough = len(self.code)
        self.put(bytes(4))
        loop = len(self.code)
        self.body(blocks, False)
        self.put(b"\x48\x83\xC0" + bytes((VECTOR,)) + b"\x48\x39\xF0\x0F\x82")         # rax += VECTOR; below rsi: again
        self.put((loop - len(self.code) - 4).to_bytes(4, "little", signed=True))
        self.code[enough:enough + 4] = (len(self.code) - enough - 4).to_bytes(4, "little")
        self.put(b"\x48\x39\xD0\x0F\x83")                                               # nothing left?
        leave = len(self.code)
        self.put(bytes(4))
        self.put(b"\x48\x89\xD1\x48\x29\xC1")                                         # rcx = bytes - rax; TAIL: as many lanes
        if EVEX:                                                                        # k7 = (1 << (rcx >> 2 or 3)) - 1
            self.put(b"\xC1\xE9" + (b"\x03" if self.wide else b"\x02") + b"\xBF\x01\x00\x00\x00\xD3\xE7\xFF\xCF\xC5\xF8\x92\xFF")
        else:                                                                           # ymm15 = what is rcx before LANES' zeros
            at = 8 * (len(self.table) - 1)
            self.put(b"\x48\x8B\xBF" + at.to_bytes(4, "little") + b"\x48\x29\xCF\xC5\x7C\x10\x7F\x20")
        self.body(blocks, True)
        self.code[leave:leave + 4] = (len(self.code) - leave - 4).to_bytes(4, "little")
        self.put(b"\xC5\xF8\x77")                                                       # vzeroupper
        for k in range(len(self.pointers) - 1, 3, -1):
            self.put(bytes((0x58 + POINTER[k],)) if POINTER[k] < 8 else bytes((0x41, 0x50 + POINTER[k])))           # pop
        self.put(b"\xC3")
        return bytes(self.code)


cdef unsigned char PREDICATE[7]         # of vcmp: EQ LT LE NE GE GT UNORDERED, none of which raises for NaN
PREDICATE[:] = [0x00, 0x11, 0x12, 0x04, 0x1D, 0x1E, 0x03]


cdef inline int step_reads(int code) noexcept:
    if code <= M_LITERAL:
        return 0
    if M_FMA <= code <= M_SELECT:
        return 3
    return 1 if M_NEG <= code <= M_SQRT or code == M_NOT else 2


cdef dict STRIP_NUMBER = {}


cdef int strip_number(Strip f) except -1:
    """4 S_name + compute dtype."""
    cdef int k, d
    if not STRIP_NUMBER:
        for k in range(N_STRIP):
            for d in range(N_COMPUTE):
                if K.strip[k][d] != NULL:
                    STRIP_NUMBER[<size_t>K.strip[k][d]] = 4 * k + d
    return STRIP_NUMBER[<size_t>f]


cdef bint has_steps(const Step* s) except -1:
    cdef int number = strip_number(s.strip)
    return number & 3 < DT_I64 and FBP_MICRO_AT[(number >> 2) + 1] > FBP_MICRO_AT[number >> 2]


cdef list write_loops(Program p, dict blocks):
    """Loops for the runs of strips that have steps: [(first strip, strips, code, table), ...].

    Runs of two and more, and single ones whose result is put over an operand: a strip may not do that, and would need a copy.
    """
    cdef Py_ssize_t k = 0, end
    cdef Loop loop
    cdef list found = []
    if not NATIVE:
        return found
    while k < p.nsteps:
        end = k
        while (end < p.nsteps and p.steps[end].I == NULL and p.steps[end].n > 1 and (end == k or p.steps[end].group)
               and has_steps(&p.steps[end]) and p.steps[end].item == p.steps[k].item):
            end += 1
        while end - k > 1 or (end > k and is_put_over(p, &p.steps[k])):
            loop = Loop.__new__(Loop)
            loop.p, loop.begin, loop.end, loop.wide = p, k, end, p.steps[k].item == 8
            try:
                code = loop.compiled(blocks)
            except OverflowError:           # too much for the registers: a shorter run
                end -= 1 + (end - k) // 8
                continue
            found.append((k, end - k, code, loop.table))
            break
        k = py_max(end, k + 1)
    return found

"""Floor 3: the kernels of a program as C99 (_c99.py), each a function of a type T whose name ends in _S."""

KERNELS = {
    "gemm": """
/* c[M, N] = a[M, K] b[K, N] (+ s, + c); strides of rows and columns follow each operand */
static void gemm_S(int64_t M, int64_t N, int64_t K, const T* a, int64_t ra, int64_t ca, const T* b, int64_t rb, int64_t cb,
                   const T* s, int64_t rs, int64_t cs, T* c, int64_t rc, int add)
{
    int64_t i, j, k;
    for (i = 0; i < M; i++)
        for (j = 0; j < N; j++) {
            A t = s ? s[i * rs + j * cs] : 0;
            for (k = 0; k < K; k++) t += (A)a[i * ra + k * ca] * (A)b[k * rb + j * cb];
            if (add) t += c[i * rc + j];
            c[i * rc + j] = (T)t;
        }
}
""",
    "conv": """
/* g: N C D H W, O, kernel, output, stride, padding, dilation (3 each), groups */
static void conv_S(T* y, const T* x, const T* w, const T* bias, const int64_t* g)
{
    int64_t n, o, z, u, v, c, i, j, k, C = g[1] / g[21], O = g[5] / g[21];
    for (n = 0; n < g[0]; n++)
        for (o = 0; o < g[5]; o++)
            for (z = 0; z < g[9]; z++)
                for (u = 0; u < g[10]; u++)
                    for (v = 0; v < g[11]; v++) {
                        double t = bias ? bias[o] : 0;
                        for (c = 0; c < C; c++)
                            for (k = 0; k < g[6]; k++)
                                for (i = 0; i < g[7]; i++)
                                    for (j = 0; j < g[8]; j++) {
                                        int64_t d = z * g[12] - g[15] + k * g[18], h = u * g[13] - g[16] + i * g[19];
                                        int64_t q = v * g[14] - g[17] + j * g[20];
                                        if (d < 0 || d >= g[2] || h < 0 || h >= g[3] || q < 0 || q >= g[4]) continue;
                                        t += (double)x[(((n * g[1] + o / O * C + c) * g[2] + d) * g[3] + h) * g[4] + q]
                                             * w[(((o * C + c) * g[6] + k) * g[7] + i) * g[8] + j];
                                    }
                        *y++ = (T)t;
                    }
}
""",
    "max_pool": """
/* largest value of each window, and its place in the plane or volume; g as for convolution */
static void max_pool_S(T* y, int64_t* at, const T* x, const int64_t* g)
{
    int64_t n, z, u, v, i, j, k;
    for (n = 0; n < g[0] * g[1]; n++, x += g[2] * g[3] * g[4])
        for (z = 0; z < g[9]; z++)
            for (u = 0; u < g[10]; u++)
                for (v = 0; v < g[11]; v++, y++, at++) {
                    *y = -INFINITY;
                    *at = -1;
                    for (k = 0; k < g[6]; k++)
                        for (i = 0; i < g[7]; i++)
                            for (j = 0; j < g[8]; j++) {
                                int64_t d = z * g[12] - g[15] + k * g[18], h = u * g[13] - g[16] + i * g[19];
                                int64_t q = v * g[14] - g[17] + j * g[20], p = (d * g[3] + h) * g[4] + q;
                                if (d < 0 || d >= g[2] || h < 0 || h >= g[3] || q < 0 || q >= g[4]) continue;
                                if (*at < 0) *at = p;
                                if (x[p] > *y || x[p] != x[p]) { *y = x[p]; *at = p; }
                            }
                }
}
""",
    "avg_pool": """
/* places of a window along one dimension */
static int64_t span_S(int64_t o, int64_t step, int64_t padding, int64_t k, int64_t size, int64_t pad)
{
    int64_t a = o * step - padding, b = a + k < size + padding ? a + k : size + padding;
    return pad ? b - a : (b < size ? b : size) - (a > 0 ? a : 0);
}

/* mean of each window; pad: padding counts; divisor: instead of the number of places, unless 0 */
static void avg_pool_S(T* y, const T* x, const int64_t* g, int64_t pad, int64_t divisor)
{
    int64_t n, z, u, v, i, j, k;
    for (n = 0; n < g[0] * g[1]; n++, x += g[2] * g[3] * g[4])
        for (z = 0; z < g[9]; z++)
            for (u = 0; u < g[10]; u++)
                for (v = 0; v < g[11]; v++) {
                    double t = 0, count = (double)divisor;
                    for (k = 0; k < g[6]; k++)
                        for (i = 0; i < g[7]; i++)
                            for (j = 0; j < g[8]; j++) {
                                int64_t d = z * g[12] - g[15] + k, h = u * g[13] - g[16] + i, q = v * g[14] - g[17] + j;
                                if (d < 0 || d >= g[2] || h < 0 || h >= g[3] || q < 0 || q >= g[4]) continue;
                                t += x[(d * g[3] + h) * g[4] + q];
                            }
                    if (divisor == 0)
                        count = (double)(span_S(z, g[12], g[15], g[6], g[2], pad) * span_S(u, g[13], g[16], g[7], g[3], pad)
                                         * span_S(v, g[14], g[17], g[8], g[4], pad));
                    *y++ = (T)(t != 0 ? t / count : t);
                }
}
""",
    "sum": """
static void sum_S(T* y, const T* x, int64_t outer, int64_t red, int64_t inner, double divisor)
{
    int64_t o, i, j;
    for (o = 0; o < outer; o++)
        for (j = 0; j < inner; j++) {
            A t = 0;
            for (i = 0; i < red; i++) t += x[(o * red + i) * inner + j];
            *y++ = (T)(divisor == 1 ? t : t / divisor);
        }
}
""",
    "sum_squares": """
static void sum_squares_S(T* y, const T* x, int64_t rows, int64_t red, double divisor)
{
    int64_t o, i;
    for (o = 0; o < rows; o++) {
        A t = 0;
        for (i = 0; i < red; i++, x++) t += (A)*x * *x;
        *y++ = (T)(t / divisor);
    }
}
""",
    "sum_abs": """
static void sum_abs_S(T* y, const T* x, int64_t rows, int64_t red, double divisor)
{
    int64_t o, i;
    for (o = 0; o < rows; o++) {
        A t = 0;
        for (i = 0; i < red; i++, x++) t += fabs((A)*x);
        *y++ = (T)(t / divisor);
    }
}
""",
    "prod": """
static void prod_S(T* y, const T* x, int64_t outer, int64_t red, int64_t inner)
{
    int64_t o, i, j;
    for (o = 0; o < outer; o++)
        for (j = 0; j < inner; j++) {
            A t = 1;
            for (i = 0; i < red; i++) t *= x[(o * red + i) * inner + j];
            *y++ = (T)t;
        }
}
""",
    "var": """
static void var_S(T* y, const T* x, int64_t outer, int64_t red, int64_t inner, double correction)
{
    int64_t o, i, j;
    for (o = 0; o < outer; o++)
        for (j = 0; j < inner; j++) {
            double m = 0, t = 0, d;
            for (i = 0; i < red; i++) m += x[(o * red + i) * inner + j];
            m /= (double)red;
            for (i = 0; i < red; i++) {
                d = x[(o * red + i) * inner + j] - m;
                t += d * d;
            }
            *y++ = (T)(t / ((double)red > correction ? (double)red - correction : 0.0));
        }
}
""",
    "peak": """
/* largest (or smallest) value along the middle dimension, or its place; NaN is both */
static void peak_S(T* y, int64_t* at, const T* x, int64_t outer, int64_t red, int64_t inner, int largest)
{
    int64_t o, i, j;
    for (o = 0; o < outer; o++)
        for (j = 0; j < inner; j++) {
            T best = x[o * red * inner + j], v;
            int64_t k = 0;
            for (i = 1; i < red; i++) {
                v = x[(o * red + i) * inner + j];
                if (largest ? v > best : v < best) { best = v; k = i; }
                if (v != v && best == best) { best = v; k = i; }
            }
            if (y) *y++ = best;
            if (at) *at++ = k;
        }
}
""",
    "cumsum": """
static void cumsum_S(T* y, const T* x, int64_t outer, int64_t red, int64_t inner, int product)
{
    int64_t o, i, j;
    for (o = 0; o < outer; o++)
        for (j = 0; j < inner; j++) {
            A t = product;
            for (i = 0; i < red; i++) {
                if (product) t *= x[(o * red + i) * inner + j];
                else t += x[(o * red + i) * inner + j];
                y[(o * red + i) * inner + j] = (T)t;
            }
        }
}
""",
    "logsumexp": """
static void logsumexp_S(T* y, const T* x, int64_t outer, int64_t red, int64_t inner)
{
    int64_t o, i, j;
    for (o = 0; o < outer; o++)
        for (j = 0; j < inner; j++) {
            const T* r = x + o * red * inner + j;
            double m = r[0], t = 0;
            for (i = 1; i < red; i++) m = r[i * inner] > m ? r[i * inner] : m;
            if (m == INFINITY || m == -INFINITY) m = 0;
            for (i = 0; i < red; i++) t += exp(r[i * inner] - m);
            *y++ = (T)(m + log(t));
        }
}
""",
    "softmax": """
static void softmax_S(T* y, const T* x, int64_t rows, int64_t cols, int64_t inner, int logarithm)
{
    int64_t r, i, j;
    for (r = 0; r < rows; r++, x += (cols - 1) * inner, y += (cols - 1) * inner)
        for (i = 0; i < inner; i++, x++, y++) {
            double m = x[0], t = 0;
            for (j = 1; j < cols; j++) m = x[j * inner] > m ? x[j * inner] : m;
            for (j = 0; j < cols; j++) t += exp(x[j * inner] - m);
            for (j = 0; j < cols; j++)
                y[j * inner] = (T)(logarithm ? x[j * inner] - m - log(t) : exp(x[j * inner] - m) / t);
        }
}
""",
    "layer_norm": """
static void layer_norm_S(T* y, T* mean, T* rstd, const T* x, const T* w, const T* b, int64_t rows, int64_t cols, double eps)
{
    int64_t r, j;
    for (r = 0; r < rows; r++, x += cols, y += cols) {
        double m = 0, q = 0;
        for (j = 0; j < cols; j++) m += x[j];
        m /= (double)cols;
        for (j = 0; j < cols; j++) q += (x[j] - m) * (x[j] - m);
        q = 1 / sqrt(q / (double)cols + eps);
        for (j = 0; j < cols; j++) y[j] = (T)((x[j] - m) * q * (w ? w[j] : 1) + (b ? b[j] : 0));
        mean[r] = (T)m;
        rstd[r] = (T)q;
    }
}
""",
    "batch_norm": """
/* channels of x[N, C, L] by running statistics */
static void batch_norm_S(T* y, T* mean, T* rstd, const T* rm, const T* rv, const T* x, const T* w, const T* b, int64_t N,
                         int64_t C, int64_t L, double eps)
{
    int64_t n, c, i;
    for (c = 0; c < C; c++) {
        mean[c] = rm[c];
        rstd[c] = (T)(1 / sqrt(rv[c] + eps));
    }
    for (n = 0; n < N; n++)
        for (c = 0; c < C; c++)
            for (i = 0; i < L; i++, x++, y++)
                *y = (T)(((double)*x - mean[c]) * rstd[c] * (w ? w[c] : 1) + (b ? b[c] : 0));
}
""",
    "take": """
/* y[outer, m, inner] = x[outer, rows, inner] at idx[m]; 1: a position outside */
static int take_S(T* y, const T* x, const int64_t* idx, int64_t outer, int64_t rows, int64_t inner, int64_t m)
{
    int64_t o, k, j;
    for (o = 0; o < outer; o++)
        for (k = 0; k < m; k++) {
            int64_t at = idx[k] < 0 ? idx[k] + rows : idx[k];
            if (at < 0 || at >= rows) return 1;
            for (j = 0; j < inner; j++) *y++ = x[(o * rows + at) * inner + j];
        }
    return 0;
}
""",
    "resampled": """
/* y[outer, m, inner]: sums over e from starts[j] to starts[j + 1] of w[e] x[outer, at[e], inner] */
static void resampled_S(T* y, const T* x, const int64_t* starts, const int64_t* at, const T* w, int64_t outer, int64_t rows,
                        int64_t inner, int64_t m)
{
    int64_t o, j, e, i;
    for (o = 0; o < outer; o++)
        for (j = 0; j < m; j++)
            for (i = 0; i < inner; i++) {
                double s = 0;
                for (e = starts[j]; e < starts[j + 1]; e++) s += (double)w[e] * x[(o * rows + at[e]) * inner + i];
                *y++ = (T)s;
            }
}
""",
    "bordered": """
/* what a position before, inside or behind 0 .. n - 1 repeats; mode 0: turned, 1: at the other side, 2: the outermost */
static int64_t border_place_S(int64_t mode, int64_t p, int64_t n)
{
    if (mode == 0) { p = p < 0 ? -p : p; return p < n ? p : 2 * (n - 1) - p; }
    if (mode == 1) return p < 0 ? p + n : p >= n ? p - n : p;
    return p < 0 ? 0 : p >= n ? n - 1 : p;
}

/* g: the mode, then for each of three dimensions its size inside and what lies before and behind; back: the transpose */
static void bordered_S(T* y, const T* x, int64_t outer, const int64_t* g, int back)
{
    int64_t o, i, j, k, n = outer * g[1] * g[4] * g[7];
    if (back) for (i = 0; i < n; i++) y[i] = 0;
    for (o = 0; o < outer; o++)
        for (i = -g[2]; i < g[1] + g[3]; i++)
            for (j = -g[5]; j < g[4] + g[6]; j++)
                for (k = -g[8]; k < g[7] + g[9]; k++) {
                    int64_t at = ((o * g[1] + border_place_S(g[0], i, g[1])) * g[4] + border_place_S(g[0], j, g[4])) * g[7]
                                 + border_place_S(g[0], k, g[7]);
                    if (back) y[at] += *x++;
                    else *y++ = x[at];
                }
}
""",
    "grid_sample": """
/* x within [0, size - 1] as the padding has it (1: border, 2: reflection); turn: times the slope of that */
static T grid_inside_S(T x, int padding, int corners, int64_t size, T* turn)
{
    const T high = (T)(size - 1);
    if (padding == 2) {
        const T low = (T)(corners ? 0 : -0.5), span = (T)(corners ? size - 1 : size);
        T flips, side;
        if (span == 0) { *turn = 0; return x * 0; }
        x -= low;
        side = (T)(x < 0 ? -1 : 1);
        x *= side;
        flips = (T)floor(x / span);
        x -= flips * span;
        if (flips - 2 * (T)floor(flips / 2) != 0) { side = -side; x = span - x; }
        x += low;
        *turn *= side;
    }
    if (padding) {
        if (!(x > 0 && x < high)) *turn = 0;
        x = x < 0 ? 0 : x > high ? high : x;
    }
    return x;
}

/* along a dimension: places (-1: outside) of the neighbours of a point, their weights, and the derivatives of those in g */
static int grid_along_S(T g, int64_t size, int mode, int padding, int corners, int64_t* at, T* w, T* dw)
{
    const T unit = (T)(corners ? (size - 1) / 2.0 : size / 2.0), a = (T)-0.75;
    const int taps = mode == 1 ? 1 : mode == 0 ? 2 : 4;
    T x = corners ? (g + 1) * unit : ((g + 1) * (T)size - 1) / 2, turn = unit, none = 0, low, t, u;
    int k;
    if (mode != 2) x = grid_inside_S(x, padding, corners, size, &turn);
    low = (T)(mode == 1 ? rint(x) : floor(x));
    t = x - low;
    u = 1 - t;
    if (mode == 1) { w[0] = 1; dw[0] = 0; }
    else if (mode == 0) { w[0] = u; w[1] = t; dw[0] = -turn; dw[1] = turn; }
    else {
        w[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
        w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
        w[2] = ((a + 2) * u - (a + 3)) * u * u + 1;
        w[3] = ((a * (u + 1) - 5 * a) * (u + 1) + 8 * a) * (u + 1) - 4 * a;
        dw[0] = turn * ((3 * a * (t + 1) - 10 * a) * (t + 1) + 8 * a);
        dw[1] = turn * (3 * (a + 2) * t - 2 * (a + 3)) * t;
        dw[2] = -turn * (3 * (a + 2) * u - 2 * (a + 3)) * u;
        dw[3] = -turn * ((3 * a * (u + 1) - 10 * a) * (u + 1) + 8 * a);
    }
    for (k = 0; k < taps; k++) {
        T p = low + (T)(mode == 2 ? k - 1 : k);
        if (mode == 2) p = grid_inside_S(p, padding, corners, size, &none);
        at[k] = p >= 0 && p <= (T)(size - 1) ? (int64_t)p : -1;
    }
    return taps;
}

/* kind 0: y of a = x; 1: its adjoint in x, 2: in the grid, of v = a; b: x, where the grid is asked for */
static void grid_sample_S(T* y, const T* a, const T* b, const T* grid, int64_t N, int64_t C, int64_t P, int64_t Q, int64_t n,
                          int64_t size0, int64_t size1, int64_t size2, int mode, int padding, int corners, int kind)
{
    int64_t sizes[3], at[3][4], e, q, c, place;
    T w[3][4], dw[3][4];
    int k, d, t, r, many, taps = 1;
    sizes[0] = size0; sizes[1] = size1; sizes[2] = size2;
    for (e = 0; e < N * (kind == 0 ? C * Q : kind == 1 ? C * P : Q * n); e++) y[e] = 0;
    for (e = 0; e < N; e++)
        for (q = 0; q < Q; q++) {
            const T* g = grid + (e * Q + q) * n;
            for (many = 1, d = 0; d < n; d++, many *= taps)
                taps = grid_along_S(g[n - 1 - d], sizes[d], mode, padding, corners, at[d], w[d], dw[d]);
            for (k = 0; k < many; k++) {
                int tap[3] = {0, 0, 0};
                T weight = 1, v = 0;
                for (d = (int)n - 1, t = k; d >= 0; d--, t /= taps) tap[d] = t % taps;
                for (place = 0, d = 0; d < n; d++) {
                    place = at[d][tap[d]] < 0 || place < 0 ? -1 : place * sizes[d] + at[d][tap[d]];
                    weight *= w[d][tap[d]];
                }
                if (place < 0) continue;
                for (c = e * C; c < (e + 1) * C; c++)
                    if (kind == 0) y[c * Q + q] += weight * a[c * P + place];
                    else if (kind == 1) y[c * P + place] += weight * a[c * Q + q];
                    else if (a[c * Q + q] != 0) v += a[c * Q + q] * b[c * P + place];
                for (d = 0; kind == 2 && d < n; d++) {
                    T s = v;
                    for (r = 0; r < n; r++) s *= r == d ? dw[r][tap[r]] : w[r][tap[r]];
                    if (v != 0) y[(e * Q + q) * n + n - 1 - d] += s;
                }
            }
        }
}
""",
    "bag_sum": """
/* y[bag, D] = sums of w[e] x[idx[e], D] over each bag's e: each of them, or from starts[bag] on; 1: a position outside */
static int bag_sum_S(T* y, const T* x, const int64_t* idx, const int64_t* starts, const T* w, int64_t V, int64_t D, int64_t bags,
                     int64_t M, int64_t each, int64_t begins, int64_t padding)
{
    int64_t b, e, j;
    for (b = 0; b < bags; b++, y += D) {
        const int64_t first = begins ? starts[b] : b * each, end = !begins ? first + each : b + 1 < begins ? starts[b + 1] : M;
        if (first < 0 || end > M || first > end) return 1;
        for (j = 0; j < D; j++) y[j] = 0;
        for (e = first; e < end; e++) {
            const int64_t at = idx[e] < 0 ? idx[e] + V : idx[e];
            if (at < 0 || at >= V) return 1;
            if (idx[e] == padding) continue;
            for (j = 0; j < D; j++) y[j] += (w ? w[e] : 1) * x[at * D + j];
        }
    }
    return 0;
}
""",
    "gather": """
/* y[o, k, j] = x[o, idx[o, k, j], j]; 1: a position outside */
static int gather_S(T* y, const T* x, const int64_t* idx, int64_t outer, int64_t rows, int64_t inner, int64_t m)
{
    int64_t o, k, j;
    for (o = 0; o < outer; o++)
        for (k = 0; k < m; k++)
            for (j = 0; j < inner; j++, idx++) {
                int64_t at = *idx < 0 ? *idx + rows : *idx;
                if (at < 0 || at >= rows) return 1;
                *y++ = x[(o * rows + at) * inner + j];
            }
    return 0;
}
""",
    "attention": """
/* one batch: y[L, V] = softmax(q k^T scale + mask) v; rows rq, rk, rv apart; add or allow: a mask, rm and cm apart */
static double score_S(const T* q, const T* k, int64_t E, double scale, const T* add, const uint8_t* allow, int64_t at)
{
    double t = 0;
    int64_t e;
    if (allow && !allow[at]) return -INFINITY;
    for (e = 0; e < E; e++) t += (double)q[e] * k[e];
    return t * scale + (add ? add[at] : 0);
}

static void attention_S(T* y, T* lse, const T* q, const T* k, const T* v, const T* add, const uint8_t* allow, int64_t L,
                        int64_t S, int64_t E, int64_t V, int64_t rq, int64_t rk, int64_t rv, int64_t rm, int64_t cm,
                        double scale, int causal)
{
    int64_t i, j, e;
    for (i = 0; i < L; i++, y += V) {
        int64_t end = causal && i + 1 < S ? i + 1 : S;
        double m = -INFINITY, t = 0, p;
        for (j = 0; j < end; j++) {
            p = score_S(q + i * rq, k + j * rk, E, scale, add, allow, i * rm + j * cm);
            m = p > m ? p : m;
        }
        for (e = 0; e < V; e++) y[e] = 0;
        lse[i] = INFINITY;
        if (m == -INFINITY) continue;
        for (j = 0; j < end; j++) {
            p = exp(score_S(q + i * rq, k + j * rk, E, scale, add, allow, i * rm + j * cm) - m);
            t += p;
            for (e = 0; e < V; e++) y[e] = (T)(y[e] + p * v[j * rv + e]);
        }
        for (e = 0; e < V; e++) y[e] = (T)(y[e] / t);
        lse[i] = (T)(m + log(t));
    }
}
""",
    "recurrent": """
/* x W: 0 tanh, 1 relu, 2 GRU, 3 LSTM; w is [H, G]; saved holds gates, a row 4 H long; ss and sc: strides of a step */
static T gate_S(T a) { return (T)(1 / (1 + exp(-(double)a))); }

static void recurrent_S(T* y, T* saved, T* cells, const T* x, const T* w, const T* h0, const T* c0, const T* bias,
                        const int64_t* lengths, int kind, int64_t steps, int64_t N, int64_t H, int reverse, int64_t ss,
                        int64_t sc)
{
    int64_t G = kind == 3 ? 4 * H : kind == 2 ? 3 * H : H, n, s, t, j, k;
    for (n = 0; n < N; n++) {
        const T* h = h0 + n * H;
        const T* c = c0 ? c0 + n * H : c0;
        for (s = 0; s < steps; s++) {
            T* o;
            T* g;
            const T* in;
            t = reverse ? steps - 1 - s : s;
            o = y + (t * N + n) * H;
            g = kind < 2 ? o : saved + t * ss + n * 4 * H;
            in = x + (t * N + n) * G;
            if (lengths && t >= lengths[n]) {
                for (j = 0; j < H; j++) o[j] = h[j];
                if (kind == 3) {
                    for (j = 0; j < H; j++) cells[t * sc + n * H + j] = c[j];
                    c = cells + t * sc + n * H;
                }
                h = o;
                continue;
            }
            for (j = 0; j < G; j++) {
                double z = kind == 2 ? (bias ? bias[j] : 0) : in[j];
                for (k = 0; k < H; k++) z += (double)h[k] * w[k * G + j];
                if (kind == 0) z = tanh(z);
                if (kind == 1) z = z > 0 || z != z ? z : 0;
                if (kind == 2 && j >= 2 * H) g[j + H] = (T)z;           /* the hidden part of n */
                else g[j] = (T)(kind == 2 ? z + in[j] : z);
            }
            if (kind == 2)
                for (j = 0; j < H; j++) {
                    g[j] = gate_S(g[j]);
                    g[H + j] = gate_S(g[H + j]);
                    g[2 * H + j] = (T)tanh((double)in[2 * H + j] + (double)g[j] * g[3 * H + j]);
                    o[j] = g[2 * H + j] + g[H + j] * (h[j] - g[2 * H + j]);
                }
            if (kind == 3) {
                T* cell = cells + t * sc + n * H;
                for (j = 0; j < H; j++) {
                    g[j] = gate_S(g[j]);
                    g[H + j] = gate_S(g[H + j]);
                    g[2 * H + j] = (T)tanh((double)g[2 * H + j]);
                    g[3 * H + j] = gate_S(g[3 * H + j]);
                    cell[j] = g[H + j] * c[j] + g[j] * g[2 * H + j];
                    o[j] = (T)(g[3 * H + j] * tanh((double)cell[j]));
                }
                c = cell;
            }
            h = o;
        }
    }
}
""",
}

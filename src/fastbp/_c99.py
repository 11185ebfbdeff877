"""Floor 3: a recorded program as C99: plain loops, for machines that have a C compiler and nothing else.

Pointwise strips are printed from the rows of the table; their scalar functions are `_SCALARS`, over the C library's.  Each other
kernel is one function of `_KERNELS`, written for a type T and printed for those that are needed.  Sums run in double.  A
constant is its bits, in a union; the arena is planned here, first places for the largest.
"""

import re
import struct

from fastbp._core import ReplayError
from fastbp.ops import _generate

_TYPES = {"float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t", "int16": "int16_t", "int8": "int8_t",
          "uint8": "uint8_t", "bool": "uint8_t"}
_SIZES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}

# name -> (arguments, value); @f is C's f for the type, k_f another of these
_SCALARS = {
    "add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b", "neg": "-a", "square": "a * a", "reciprocal": "1 / a",
    "abs": "a < 0 ? -a : a + 0", "sign": "(T)((a > 0) - (a < 0))", "where": "a != 0 ? b : c",
    "eq": "(T)(a == b)", "ne": "(T)(a != b)", "lt": "(T)(a < b)", "le": "(T)(a <= b)", "gt": "(T)(a > b)", "ge": "(T)(a >= b)",
    "logical_and": "(T)(a != 0 && b != 0)", "logical_or": "(T)(a != 0 || b != 0)", "logical_not": "(T)(a == 0)",
    "logical_xor": "(T)((a != 0) != (b != 0))", "bitwise_and": "a & b", "bitwise_or": "a | b", "bitwise_xor": "a ^ b",
    "bitwise_not": "~a", "maximum": "a > b || a != a ? a : b", "minimum": "a < b || a != a ? a : b",
    "clamp": "a != a ? a : a < b ? (c < b ? c : b) : a > c ? c : a", "isnan": "(T)(a != a)",
    "isinf": "(T)(a - a != a - a && a == a)",
    "isfinite": "(T)(a - a == a - a)", "floor": "@floor(a)", "ceil": "@ceil(a)", "trunc": "@trunc(a)", "round": "@rint(a)",
    "sqrt": "@sqrt(a)", "rsqrt": "1 / @sqrt(a)", "exp": "@exp(a)", "exp2": "@exp2(a)", "expm1": "@expm1(a)", "log": "@log(a)",
    "log2": "@log2(a)", "log10": "@log10(a)", "log1p": "@log1p(a)", "sin": "@sin(a)", "cos": "@cos(a)", "tan": "@tan(a)",
    "asin": "@asin(a)", "acos": "@acos(a)", "atan": "@atan(a)", "atan2": "@atan2(a, b)", "sinh": "@sinh(a)", "cosh": "@cosh(a)",
    "tanh": "@tanh(a)", "asinh": "@asinh(a)", "acosh": "@acosh(a)", "atanh": "@atanh(a)", "hypot": "@hypot(a, b)",
    "copysign": "@copysign(a, b)", "pow": "@pow(a, b)", "fmod": "@fmod(a, b)", "fmax": "@fmax(a, b)", "fmin": "@fmin(a, b)",
    "erf": "@erf(a)", "erfc": "@erfc(a)", "lgamma": "@lgamma(a)", "relu": "a > 0 || a != a ? a : 0",
    "sigmoid": "1 / (1 + @exp(-a))", "silu": "a / (1 + @exp(-a))", "gelu": "a * @erfc(a * (T)-0.70710678118654752) / 2",
    "gelu_tanh": "a / (1 + @exp(a * (T)-1.5957691216057308 * (1 + (T)0.044715 * a * a)))",
    "softplus": "k_maximum(a, 0) + @log1p(@exp(-k_abs(a)))", "log_sigmoid": "-k_softplus(-a)",
    "logaddexp": "a == b ? a + (T)0.69314718055994531 : k_maximum(a, b) + @log1p(@exp(-k_abs(a - b)))",
    "xlogy": "b != b ? b : a == 0 ? 0 : a * @log(b)", "floor_divide": "@floor(a / b)",
    "remainder": "@fmod(a, b) != 0 && (@fmod(a, b) < 0) != (b < 0) ? @fmod(a, b) + b : @fmod(a, b)",
    "sinc": "a == 0 ? 1 : @sin(a * (T)3.14159265358979324) / (a * (T)3.14159265358979324)",
}
_FLOATING = {"floor_divide", "remainder", "fmod", "fmax", "fmin", "pow", "div", "reciprocal", "isinf", "isfinite"}
_WRAP = {"add": "+", "sub": "-", "mul": "*"}

_KERNELS = {
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
    "sampled": """
/* sums of values at places that all channels share, and (kind 1, 2) what is transposed to it in x [N, C, P], in w [N, K, Q] */
static void sampled_S(T* y, const T* a, const int64_t* at, const T* b, int64_t N, int64_t C, int64_t P, int64_t K, int64_t Q,
                      int kind)
{
    int64_t n, c, k, q;
    for (n = 0; n < N * (kind == 0 ? C * Q : kind == 1 ? C * P : K * Q); n++) y[n] = 0;
    for (n = 0; n < N; n++)
        for (c = 0; c < C; c++)
            for (q = 0; q < Q; q++)
                for (k = 0; k < K; k++) {
                    const int64_t row = n * C + c, w = (n * K + k) * Q + q;
                    if (at[w] < 0 || at[w] >= P) continue;
                    if (kind == 0) y[row * Q + q] += b[w] * a[row * P + at[w]];
                    else if (kind == 1) y[row * P + at[w]] += b[w] * a[row * Q + q];
                    else y[w] += a[row * Q + q] * b[row * P + at[w]];
                }
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


def _literal(bits, dtype):
    """A number of a dtype by its bits, exactly."""
    if dtype == "int64":
        value = struct.unpack("<q", bits.to_bytes(8, "little"))[0]
        return f"INT64_C({value})" if value > -(1 << 63) else "(-INT64_MAX - 1)"
    value = struct.unpack_from("<f" if dtype == "float32" else "<d", bits.to_bytes(8, "little"))[0]
    return _real(value, dtype)


def _real(value, dtype):
    if value != value:
        return "((T)NAN)".replace("T", _TYPES[dtype], 1)
    if value in (float("inf"), -float("inf")):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    if dtype == "float32":
        value = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 3.5e38 else value
    return f"({value.hex()}{'f' if dtype == 'float32' else ''})" if value != int(value) or abs(value) > 1e15 else \
        f"{value!r}{'f' if dtype == 'float32' else ''}" if value >= 0 and str(value) != "-0.0" else \
        f"({value!r}{'f' if dtype == 'float32' else ''})"


def _c_double(bits):
    return _literal(bits, "float64")


class _Writer:
    def __init__(self, header, blobs, name):
        self.header, self.blobs, self.name = header, blobs, name
        self.helpers, self.scalars, self.lines = {}, {}, []
        self.strips = {s.name: s for s in _generate.all_strips()}
        self.slots = header["slots"]
        self.dtypes = [set() for _ in self.slots]
        for s in header["steps"]:
            for a in s["args"]:
                if a is not None and "slot" in a:
                    self.dtypes[a["slot"]].add(a["dtype"])
        for x in header["inputs"] + header["outputs"]:
            self.dtypes[x["slot"]].add(x["dtype"])

    # ---- memory

    def place(self):
        """Where each slot lies: {slot: C expression of its first byte or element}."""
        lives = {}
        for k, s in enumerate(self.header["steps"]):
            for a in s["args"]:
                if a is not None and "slot" in a:
                    first, _ = lives.get(a["slot"], (k, k))
                    lives[a["slot"]] = (first, k)
        end = len(self.header["steps"])
        self.direct = {}            # results that are written where they belong
        named = [y["slot"] for y in self.header["outputs"]]
        for k, y in enumerate(self.header["outputs"]):
            slot = self.slots[y["slot"]]
            if slot["kind"] == "output" and named.count(y["slot"]) == 1 and y["offset"] == 0 and _contiguous(y) \
                    and slot["bytes"] == _count(y) * _SIZES[y["dtype"]]:
                self.direct[y["slot"]] = k
            elif slot["kind"] == "output":
                lives[y["slot"]] = (lives[y["slot"]][0], end)
        self.copied = {x["slot"]: k for k, x in enumerate(self.header["inputs"]) if not _contiguous(x)}
        placed, self.offsets, self.arena = [], {}, 0
        sizes = {}
        for m, slot in enumerate(self.slots):
            if m in self.copied:
                x = self.header["inputs"][self.copied[m]]
                sizes[m] = (1 + sum((n - 1) * step for n, step in zip(x["shape"], x["strides"]))) * _SIZES[x["dtype"]]
                lives[m] = (0, end)
            elif slot["kind"] in ("temp", "output") and m in lives and m not in self.direct:
                sizes[m] = slot["bytes"]
        for m in sorted(sizes, key=lambda m: -sizes[m]):
            size, (first, last), at = (sizes[m] + 63) // 64 * 64, lives[m], 0
            for lo, hi, a, b in sorted(placed):
                if a <= last and first <= b and lo < at + size and at < hi:
                    at = hi
            placed.append((at, at + size, first, last))
            self.offsets[m] = at
            self.arena = max(self.arena, at + size)

    def pointer(self, a, const=True):
        """A C pointer to an operand's first element."""
        if a is None:
            return "NULL"
        m, dtype, size = a["slot"], a["dtype"], _SIZES.get(a["dtype"])
        if size is None:
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {dtype}")
        ctype = _TYPES[dtype]
        kind = self.slots[m]["kind"]
        if a["offset"] % size:
            raise ReplayError(f"to_c: {self.header['name']}: an operand lies between elements")
        plus = f" + {a['offset'] // size}" if a["offset"] else ""
        if m in self.offsets:
            return f"(({'const ' if const else ''}{ctype}*)(void*)(w + {self.offsets[m] + a['offset']}))"
        if len({_TYPES[d] for d in self.dtypes[m]}) != 1:
            raise ReplayError(f"to_c: {self.header['name']}: memory that is read as {' and '.join(sorted(self.dtypes[m]))}")
        base = f"c{m}.v" if kind == "constant" else f"y{self.direct[m]}" if m in self.direct else f"x{self.slots[m]['index']}"
        return f"({base}{plus})" if plus else base

    # ---- scalars

    def scalar(self, name, dtype, op):
        """Make sure that k_name exists for a dtype; its name."""
        tag = {"float32": "f32", "float64": "f64", "int64": "i64"}[dtype]
        full = f"k_{name}_{tag}"
        if full in self.scalars:
            return full
        text = _SCALARS.get(name)
        if text is None or (dtype == "int64" and ("@" in text or name in _FLOATING)):
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {op} ({name} of {dtype})")
        if dtype == "int64" and name in _WRAP:
            text = f"(T)((uint64_t)a {_WRAP[name]} (uint64_t)b)"
        used = [x for x in "abc" if re.search(rf"\b{x}\b", text)]
        self.scalars[full] = None
        text = re.sub(r"\bk_(\w+)\(", lambda m: self.scalar(m[1], dtype, op) + "(", text)
        text = re.sub(r"@(\w+)", lambda m: m[1] + ("f" if dtype == "float32" else ""), text)
        text = re.sub(r"\bT\b", _TYPES[dtype], text)
        ctype = _TYPES[dtype]
        del self.scalars[full]
        self.scalars[full] = f"static {ctype} {full}({', '.join(f'{ctype} {x}' for x in used)}) {{ return {text}; }}"
        return full

    def expression(self, s):
        """The C expression of a strip; operands are named as in the table, with "_" behind."""
        strip, dtype = self.strips[s["strip"]], s["dtype"]
        text = _generate.print_expression(strip.expression, "T")
        literal = (lambda v: f"INT64_C({int(v)})") if dtype == "int64" else (lambda v: _real(v, dtype))
        text = re.sub(r"<T>\((-?[^()]*)\)", lambda m: literal(float(m[1])), text)
        return re.sub(r"\bk_(\w+)\(", lambda m: self.scalar(m[1], dtype, s["op"]) + "(", text), strip

    def pointwise(self, s):
        dtype, ctype = s["dtype"], _TYPES[s["dtype"]]
        value, strip = self.expression(s)
        out, args = s["args"][0], s["args"][1:]
        flat = s["kernel"] == "strip" or s["flags"] & 1
        shape = [s["n"]] if flat else s["shape"][:s["ndim"]]
        yield f"        {_TYPES[out['dtype']]}* o = {self.pointer(out, False)};"
        places = [self.place_of(out, shape, flat)]
        for k, a in enumerate(args):
            if "slot" in a:
                yield f"        const {_TYPES[a['dtype']]}* p{k} = {self.pointer(a)};"
                places.append(self.place_of(a, shape, flat))
            else:
                places.append(None)
        for name, k in strip.constants.items():
            if name in strip.expression.names():
                bits = s["c"].get(k, s["c"].get(str(k), 0))
                number = _literal(bits, "int64") if dtype == "int64" else f"({ctype}){_c_double(bits)}"
                yield f"        const {ctype} {name}_ = {number};"
        yield f"        int64_t {', '.join(f'i{d}' for d in range(len(shape)))};"
        for d, n in enumerate(shape):
            yield "        " + "    " * d + f"for (i{d} = 0; i{d} < {n}; i{d}++)" + (" {" if d == len(shape) - 1 else "")
        pad = "        " + "    " * len(shape)
        for k, (a, name) in enumerate(zip(args, strip.operands)):
            if "slot" in a:
                yield pad + f"const {ctype} {name}_ = ({ctype})p{k}[{places[k + 1]}];"
            else:
                bits = a["number"] if "number" in a else s["c"].get(a["constant"], 0)
                yield pad + f"const {ctype} {name}_ = {_literal(bits, dtype)};"
        value = f"(uint8_t)({value} != 0)" if out["dtype"] == "bool" else f"({_TYPES[out['dtype']]})({value})"
        yield pad + f"o[{places[0]}] {'+=' if s['flags'] & 2 else '='} {value};"
        yield "        " + "    " * (len(shape) - 1) + "}"

    def place_of(self, a, shape, flat):
        if flat:
            return "i0"
        strides = a["strides"] + [0] * len(shape)
        return " + ".join(f"i{d} * {strides[d]}" if strides[d] != 1 else f"i{d}" for d in range(len(shape)) if strides[d]) or "0"

    # ---- kernels

    def helper(self, name, dtype):
        tag = {"float32": "f32", "float64": "f64"}.get(dtype) or f"{dtype[0]}{_SIZES[dtype] * 8}"
        if (name, tag) not in self.helpers:
            text = re.sub(r"\bT\b", _TYPES[dtype], _KERNELS[name])
            text = re.sub(r"\bA\b", "double" if "float" in dtype else "int64_t", text)
            text = text if "float" in dtype else text.replace("v != v && best == best", "0")     # compilers warn of it
            self.helpers[name, tag] = re.sub(r"_S\b", "_" + tag, text)
        return f"{name}_{tag}"

    def call(self, s):
        """The lines of a step that is not pointwise."""
        kernel, dtype, args = s["kernel"], s["dtype"], s["args"]
        c = {int(k): v for k, v in s["c"].items()}
        signed = {k: v - (1 << 64) if v >> 63 else v for k, v in c.items()}
        number = lambda k: str(signed.get(k, 0))
        p = [self.pointer(a, k >= s["nout"]) if a is not None else "NULL" for k, a in enumerate(args)]
        shape = [str(n) for n in s["shape"]]
        batches = s["shape"][:s["ndim"]]

        def batched(k):
            """Operand k at the batch i0, i1, ..."""
            if args[k] is None:
                return "NULL"
            at = self.place_of(args[k], batches, False) if batches else "0"
            return p[k] if at == "0" else f"{p[k]} + {at}"

        def stride(k, d):
            strides = args[k]["strides"] if args[k] is not None else []
            return str(strides[d]) if d < len(strides) else "0"

        def loops(text):
            if batches:
                yield f"        int64_t {', '.join(f'i{d}' for d in range(len(batches)))};"
            for d, n in enumerate(batches):
                yield "        " + "    " * d + f"for (i{d} = 0; i{d} < {n}; i{d}++)"
            yield "        " + "    " * len(batches) + text

        nb = s["ndim"]
        if kernel == "gemm":
            f = self.helper("gemm", dtype)
            yield from loops(f"{f}({number(0)}, {number(1)}, {number(2)}, {batched(1)}, {stride(1, nb)}, {stride(1, nb + 1)}, "
                             f"{batched(2)}, {stride(2, nb)}, {stride(2, nb + 1)}, {batched(3)}, {stride(3, nb)}, "
                             f"{stride(3, nb + 1)}, {batched(0)}, {stride(0, nb)}, {int(bool(s['flags'] & 2))});")
        elif kernel in ("conv", "max_pool", "avg_pool"):
            f = self.helper(kernel, dtype)
            yield f"        static const int64_t g[22] = {{{', '.join(number(k) for k in range(22))}}};"
            yield f"        {f}({', '.join(p)}, g{f', {number(22)}, {number(23)}' if kernel == 'avg_pool' else ''});"
        elif kernel in ("sum", "var"):
            yield f"        {self.helper(kernel, dtype)}({p[0]}, {p[1]}, {', '.join(shape[:3])}, {_c_double(c.get(0, 0))});"
        elif kernel in ("sum_squares", "sum_abs"):
            yield f"        {self.helper(kernel, dtype)}({p[0]}, {p[1]}, {', '.join(shape[:2])}, {_c_double(c.get(0, 0))});"
        elif kernel in ("prod", "logsumexp"):
            yield f"        {self.helper(kernel, dtype)}({p[0]}, {p[1]}, {', '.join(shape[:3])});"
        elif kernel in ("cumsum", "cumprod"):
            yield f"        {self.helper('cumsum', dtype)}({p[0]}, {p[1]}, {', '.join(shape[:3])}, {int(kernel == 'cumprod')});"
        elif kernel in ("amax", "amin", "argmax", "argmin"):
            results = f"NULL, {p[0]}" if kernel[1] == "r" else f"{p[0]}, NULL"
            largest = int(kernel.endswith("max"))
            yield f"        {self.helper('peak', dtype)}({results}, {p[1]}, {', '.join(shape[:3])}, {largest});"
        elif kernel in ("softmax", "log_softmax"):
            yield (f"        {self.helper('softmax', dtype)}({p[0]}, {p[1]}, {shape[0]}, {shape[1]}, "
                   f"{int(shape[2]) or 1}, {int(kernel[0] == 'l')});")
        elif kernel == "layer_norm":
            yield f"        {self.helper(kernel, dtype)}({', '.join(p)}, {shape[0]}, {shape[1]}, {_c_double(c.get(0, 0))});"
        elif kernel == "batch_norm":
            yield f"        {self.helper(kernel, dtype)}({', '.join(p)}, {', '.join(shape[:3])}, {_c_double(c.get(2, 0))});"
        elif kernel == "resampled":
            yield f"        {self.helper(kernel, dtype)}({', '.join(p)}, {', '.join(shape[:4])});"
        elif kernel in ("sampled", "sampled_input", "sampled_weights"):
            kind = ("sampled", "sampled_input", "sampled_weights").index(kernel)
            yield f"        {self.helper('sampled', dtype)}({', '.join(p)}, {', '.join(shape[:5])}, {kind});"
        elif kernel in ("take", "gather"):
            f = self.helper(kernel, args[0]["dtype"])
            yield f"        if ({f}({', '.join(p)}, {', '.join(shape[:4])})) return 1;"
        elif kernel == "attention":
            if c.get(7, 0):
                raise ReplayError(f"to_c: {self.header['name']}: attention with dropout; call eval() first")
            f, kind, last = self.helper(kernel, dtype), signed.get(6, 0), int(number(2))
            whole = ""
            for d, n in enumerate(batches):
                whole = f"({whole} * {n} + i{d})" if whole else f"i{d}"
            result = f"{p[0]} + {whole} * {last * int(number(5))}, {p[1]} + {whole} * {last}" if whole else f"{p[0]}, {p[1]}"
            mask = f"{batched(5) if kind == 1 else 'NULL'}, {batched(5) if kind == 2 else 'NULL'}"
            yield from loops(f"{f}({result}, {batched(2)}, {batched(3)}, {batched(4)}, {mask}, "
                             f"{number(2)}, {number(3)}, {number(4)}, {number(5)}, {stride(2, nb)}, {stride(3, nb)}, "
                             f"{stride(4, nb)}, {stride(5, nb)}, {stride(5, nb + 1)}, {_c_double(c.get(0, 0))}, {number(1)});")
        elif kernel == "recurrent":
            yield (f"        {self.helper(kernel, dtype)}({', '.join(p)}, "
                   f"{', '.join(number(k) for k in range(7))});")
        else:
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {s['op']} ({kernel})")

    def constant(self, m):
        slot = self.slots[m]
        types = {_TYPES.get(d, d) for d in self.dtypes[m]}
        if len(types) != 1 or not types <= set(_TYPES.values()):
            raise ReplayError(f"to_c: {self.header['name']}: memory that is read as {' and '.join(sorted(self.dtypes[m]))}")
        ctype = types.pop()
        size = {v: _SIZES[k] for k, v in _TYPES.items()}[ctype]
        data = bytes(self.blobs[slot["data"]])
        count = len(data) // size
        word = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        values = struct.unpack(f"<{count}{word}", data[:count * size])
        end = "u" if size < 8 else "ull"
        yield f"static const union {{ uint{size * 8}_t u[{count}]; {ctype} v[{count}]; }} c{m} = {{{{"
        per = {1: 20, 2: 14, 4: 10, 8: 5}[size]
        for k in range(0, count, per):
            yield "    " + ", ".join(f"0x{v:x}{end.replace('ull', '')}" if size < 8 else f"UINT64_C(0x{v:x})"
                                     for v in values[k:k + per]) + ","
        yield "}};"

    def write(self):
        self.place()
        body, name = [], self.name
        for m, k in self.copied.items():
            x = self.header["inputs"][k]
            body += ["    {   /* argument in the recorded layout */", *self.copy_lines(
                x, f"(({_TYPES[x['dtype']]}*)(void*)(w + {self.offsets[m]}))", f"x{k}", True), "    }"]
        for k, s in enumerate(self.header["steps"]):
            body.append(f"    {{   /* {k}: {s['op']} */")
            body += self.pointwise(s) if s["kernel"] in ("strip", "pointwise") else self.call(s)
            body.append("    }")
        for k, y in enumerate(self.header["outputs"]):
            if y["slot"] not in self.direct:
                body += [f"    {{   /* result {k} */", *self.copy_lines(y, f"y{k}", self.pointer(y), False), "    }"]
        used = sorted({a["slot"] for s in self.header["steps"] for a in s["args"] if a is not None and "slot" in a}
                      | {y["slot"] for y in self.header["outputs"]})
        ins = [f"const {self.typed(x)}* x{k}" for k, x in enumerate(self.header["inputs"])]
        outs = [f"{self.typed(y)}* y{k}" for k, y in enumerate(self.header["outputs"])]
        parameters = ", ".join(ins + outs)
        names = ", ".join([f"x{k}" for k in range(len(ins))] + [f"y{k}" for k in range(len(outs))])
        about = [f"   x{k}: {x['dtype']}{x['shape']}" for k, x in enumerate(self.header["inputs"])]
        about += [f"   y{k}: {y['dtype']}{y['shape']}" for k, y in enumerate(self.header["outputs"])]
        guard = f"{name.upper()}_H"
        declarations = "\n".join([
            f"/* {name}: a program that fastbp recorded and wrote as C99.  All arrays are contiguous.", *about,
            f"   {name}_run uses one static workspace, {name}_run_in the caller's, aligned as malloc's.",
            "   They return 0, or 1 for a position outside its dimension. */", f"#ifndef {guard}", f"#define {guard}",
            "#include <stdint.h>", f"#define {name.upper()}_WORKSPACE {self.arena or 8}",
            f"int {name}_run({parameters});", f"int {name}_run_in(void* workspace, {parameters});", "#endif", ""])
        lines = [f"/* Written by fastbp; {name}.h says what it computes. */", f'#include "{self.stem}.h"', "#include <math.h>",
                 "#include <stddef.h>", ""]
        for m in used:
            if self.slots[m]["kind"] == "constant":
                lines += [*self.constant(m), ""]
        lines += [*self.scalars.values(), *self.helpers.values(), f"int {name}_run_in(void* workspace, {parameters})", "{",
                  "    unsigned char* w = (unsigned char*)workspace;", "    (void)w;"]
        lines += [f"    (void)x{k};" for k in range(len(ins))] + body + ["    return 0;", "}", ""]
        lines += [f"int {name}_run({parameters})", "{", f"    static double arena[{(self.arena + 7) // 8 or 1}];",
                  f"    return {name}_run_in(arena, {names});", "}", ""]
        return "\n".join(lines), declarations

    def typed(self, x):
        if x["dtype"] not in _TYPES:
            raise ReplayError(f"to_c: {self.header['name']}: there is no C for {x['dtype']}")
        return _TYPES[x["dtype"]]

    def copy_lines(self, x, target, source, spread):
        """Contiguous to strided (spread), or back."""
        shape = x["shape"] or [1]
        strides = x["strides"] or [1]
        yield f"        int64_t {', '.join(f'i{d}' for d in range(len(shape)))}, k = 0;"
        for d, n in enumerate(shape):
            yield "        " + "    " * d + f"for (i{d} = 0; i{d} < {n}; i{d}++)"
        at = " + ".join(f"i{d} * {step}" for d, step in enumerate(strides))
        pad = "        " + "    " * len(shape)
        yield pad + (f"{target}[{at}] = {source}[k++];" if spread else f"{target}[k++] = {source}[{at}];")


def _count(x):
    n = 1
    for size in x["shape"]:
        n *= size
    return n


def _contiguous(x):
    n = 1
    for size, step in zip(reversed(x["shape"]), reversed(x["strides"])):
        if size != 1 and step != n:
            return False
        n *= size
    return True


def write(header, blobs, name, stem):
    """(text of the C file, text of the header)."""
    writer = _Writer(header, blobs, name)
    writer.stem = stem
    return writer.write()

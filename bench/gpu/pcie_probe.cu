// Measures the PCIe link between a host and an NVIDIA GPU. Prints CSV rows
//
//     experiment,direction,size_bytes,parallel,metric,value
//
// as `sevpcie validate` reads them; data/measured/README.md says what each experiment is.
//
//     nvcc -O3 -arch=sm_90 -o pcie_probe bench/gpu/pcie_probe.cu && ./pcie_probe SECONDS > gpu_gen5x16_NAME.csv
//
// The whole series is repeated until SECONDS are over, at most REPEATS times; each row is printed as soon as it is
// measured. Needs 2 GiB of host memory that can be pinned and 2 GiB of the GPU's.

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using Clock = std::chrono::steady_clock;

static const int REPEATS = 5;
static const size_t KiB = 1 << 10, MiB = 1 << 20, GiB = 1 << 30;
static const size_t WINDOW = 256 * MiB;  // of the zero-copy experiments
static const size_t STEP = 256;          // bytes between places of the pointer chase
static const size_t BESIDE = 4 * MiB;    // of the copies that queued small ones run beside

#define CHECK(call)                                                                                     \
    do {                                                                                                \
        cudaError_t error_ = (call);                                                                    \
        if (error_ != cudaSuccess) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

static double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

static void row(const char *experiment, const char *direction, size_t size, size_t parallel, const char *metric, double value) {
    printf("%s,%s,%zu,%zu,%s,%.6g\n", experiment, direction, size, parallel, metric, value);
    fflush(stdout);
}

static void times(const char *experiment, const char *direction, size_t size, const char *unit, std::vector<double> &v) {
    std::sort(v.begin(), v.end());
    std::string metric(unit);
    row(experiment, direction, size, 1, (metric + "_p50").c_str(), v[v.size() / 2]);
    row(experiment, direction, size, 1, (metric + "_p99").c_str(), v[v.size() * 99 / 100]);
    row(experiment, direction, size, 1, (metric + "_min").c_str(), v[0]);
}

// --- Kernels -----------------------------------------------------------------------------------------------------

__device__ inline u64 now_ns() {
    u64 t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

// .cv: not from a cache of the GPU, which does not see what the host writes.
__device__ inline u32 load(const u32 *p) {
    u32 v;
    asm volatile("ld.global.cv.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

__device__ inline void store(u32 *p, u32 v) { asm volatile("st.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }

__device__ inline u32 seed(u64 x) {  // splitmix64: neighbours begin far from each other
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return (u32)(x ^ (x >> 31));
}

// A few cycles: a 64-bit remainder instead would add some 0.5 us to each step.
__device__ inline u32 next(u32 x) { return x * 1664525u + 1013904223u; }

__global__ void nothing() {}

__global__ void spin(u64 ns) {
    u64 t = now_ns();
    while (now_ns() - t < ns) {
    }
}

// One thread follows a chain of word indices: each read's address is the data of the one before.
__global__ void chase(const u32 *memory, u32 first, int steps, u64 *result) {
    u32 at = first;
    for (int i = 0; i < 32; i++) at = load(memory + at);
    u64 t = now_ns();
    for (int i = 0; i < steps; i++) at = load(memory + at);
    if (at == 0xffffffffu) return;  // Never; but the last read has to be there before the clock is read.
    *result = now_ns() - t;
}

// Groups of `lanes` threads read one piece of 4 x lanes bytes, then another one: one request of each outstanding.
__global__ void read_pieces(const u32 *memory, u32 pieces, int lanes, int steps, int threads, u64 *sink) {
    int thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= threads) return;
    u32 lane = thread % lanes, x = seed(thread / lanes + 1), sum = 0;
    for (int i = 0; i < steps; i++) {
        u32 v = load(memory + (size_t)__umulhi(x, pieces) * lanes + lane);
        sum += v;
        x = next(x + v);  // All words are 0; the compiler cannot know, so the next read waits for this one.
    }
    if (sum == 0xffffffffu) *sink = sum;
}

__global__ void write_pieces(u32 *memory, u32 pieces, int lanes, int steps, int threads) {
    int thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= threads) return;
    u32 lane = thread % lanes, x = seed(thread / lanes + 1);
    for (int i = 0; i < steps; i++) {
        store(memory + (size_t)__umulhi(x, pieces) * lanes + lane, i);
        x = next(x);
    }
}

// The GPU's side of a ping-pong: answers i when it sees i. Gives up after `limit_ns`.
__global__ void answer(volatile u32 *ping, volatile u32 *pong, u32 rounds, u64 limit_ns) {
    u64 t = now_ns();
    for (u32 i = 1; i <= rounds; i++) {
        u32 spins = 0;
        while (*ping != i)
            if ((++spins & 1023) == 0 && now_ns() - t > limit_ns) return;
        *pong = i;
    }
}

// --- Experiments -------------------------------------------------------------------------------------------------

struct Bench {
    char *up, *down;  // pinned host memory that the GPU reads, and that it writes: 1 GiB each
    char *to, *from;  // device memory: 1 GiB each
    u64 *result;      // device memory
    cudaStream_t a, b, held;
    cudaEvent_t begin, end, other, all, gate;
};

static double elapsed_us(cudaEvent_t from, cudaEvent_t to) {
    float ms;
    CHECK(cudaEventElapsedTime(&ms, from, to));
    return 1e3 * ms;
}

static const char *name_of(bool h2d) { return h2d ? "h2d" : "d2h"; }

static void copy(Bench &m, bool h2d, size_t size, cudaStream_t stream) {
    if (h2d)
        CHECK(cudaMemcpyAsync(m.to, m.up, size, cudaMemcpyHostToDevice, stream));
    else
        CHECK(cudaMemcpyAsync(m.down, m.from, size, cudaMemcpyDeviceToHost, stream));
}

// How many requests of a size make so many bytes, within limits.
static int batch(size_t size, size_t bytes, int least, int most) {
    return (int)std::min<size_t>(most, std::max<size_t>(least, bytes / size));
}

static void copy_stream(Bench &m, bool h2d, size_t size) {
    int n = batch(size, GiB, 4, 2000);
    for (int i = 0; i < std::min(n, 10); i++) copy(m, h2d, size, m.a);
    CHECK(cudaStreamSynchronize(m.a));
    CHECK(cudaEventRecord(m.begin, m.a));
    for (int i = 0; i < n; i++) copy(m, h2d, size, m.a);
    CHECK(cudaEventRecord(m.end, m.a));
    CHECK(cudaEventSynchronize(m.end));
    row("copy_stream", name_of(h2d), size, 1, "GB_per_s", 1e-3 * n * size / elapsed_us(m.begin, m.end));
}

static void copy_sync(Bench &m, bool h2d, size_t size) {
    int n = batch(size, 2 * GiB, 6, 500), warm = size > 64 * MiB ? 1 : 5;
    std::vector<double> us;
    for (int i = 0; i < warm + n; i++) {
        Clock::time_point t = Clock::now();
        copy(m, h2d, size, m.a);
        CHECK(cudaStreamSynchronize(m.a));
        if (i >= warm) us.push_back(1e6 * since(t));
    }
    times("copy_sync", name_of(h2d), size, "us", us);
}

// As many copies of each direction, on a stream each, handed over in turn by one thread.
static void copy_bidir(Bench &m, size_t size) {
    int n = batch(size, 2 * GiB, 6, 2000);
    for (int i = 0; i < std::min(n, 4); i++) {
        copy(m, true, size, m.a);
        copy(m, false, size, m.b);
    }
    CHECK(cudaStreamSynchronize(m.a));
    CHECK(cudaStreamSynchronize(m.b));
    CHECK(cudaEventRecord(m.begin, m.a));
    CHECK(cudaStreamWaitEvent(m.b, m.begin, 0));
    for (int i = 0; i < n; i++) {
        copy(m, true, size, m.a);
        copy(m, false, size, m.b);
    }
    CHECK(cudaEventRecord(m.other, m.b));
    CHECK(cudaStreamWaitEvent(m.a, m.other, 0));
    CHECK(cudaEventRecord(m.all, m.a));
    CHECK(cudaEventSynchronize(m.all));
    row("copy_bidir", "both", size, 2, "GB_per_s_sum", 2e-3 * n * size / elapsed_us(m.begin, m.all));
}

// Copies that all wait at the GPU before the first begins, so that the driver's pace does not show: alone, or with
// as many of `beside` bytes of the other direction, which take longer than they do. No row if that was not so.
static void copy_queued(Bench &m, bool h2d, size_t size, size_t beside) {
    int n = batch(std::max(size, beside), 256 * MiB, 8, 300);
    spin<<<1, 1, 0, m.held>>>(5000000);
    CHECK(cudaEventRecord(m.gate, m.held));
    CHECK(cudaStreamWaitEvent(m.a, m.gate, 0));
    CHECK(cudaStreamWaitEvent(m.b, m.gate, 0));
    CHECK(cudaEventRecord(m.begin, m.a));
    for (int i = 0; i < n; i++) {
        copy(m, h2d, size, m.a);
        if (beside) copy(m, !h2d, beside, m.b);
    }
    bool ahead = cudaEventQuery(m.gate) == cudaErrorNotReady;
    CHECK(cudaEventRecord(m.end, m.a));
    CHECK(cudaEventRecord(m.other, m.b));
    CHECK(cudaEventSynchronize(m.end));
    CHECK(cudaEventSynchronize(m.other));
    double us = elapsed_us(m.begin, m.end) / n;
    bool within = !beside || elapsed_us(m.end, m.other) > 0;
    if (ahead && within && us > 0)
        row(beside ? "copy_queued_beside" : "copy_queued", name_of(h2d), size, beside ? beside : 1, "us", us);
}

// A chain through every place of a span, or through one of each of so many equal parts, in random order.
static u32 chain(Bench &m, size_t span, size_t steps, std::mt19937_64 &random) {
    size_t places = span / STEP, n = std::min(places, steps);
    std::vector<u32> order;
    for (size_t i = 0; i < n; i++) {
        size_t low = i * places / n, high = (i + 1) * places / n;
        order.push_back((u32)((low + random() % (high - low)) * (STEP / 4)));
    }
    std::shuffle(order.begin(), order.end(), random);
    u32 *words = (u32 *)m.up;
    for (size_t i = 0; i < n; i++) words[order[i]] = order[(i + 1) % n];
    return order[0];
}

static void zerocopy_chase(Bench &m, size_t span, std::mt19937_64 &random) {
    const int steps = 16384;
    u32 first = chain(m, span, steps + 64, random);
    u64 ns;
    chase<<<1, 1, 0, m.a>>>((u32 *)m.up, first, 256, m.result);
    chase<<<1, 1, 0, m.a>>>((u32 *)m.up, first, steps, m.result);
    CHECK(cudaMemcpyAsync(&ns, m.result, sizeof ns, cudaMemcpyDeviceToHost, m.a));
    CHECK(cudaStreamSynchronize(m.a));
    row("zerocopy_chase", "read", span, 1, "ns_mean", (double)ns / steps);
    memset(m.up, 0, span);  // read_pieces needs words of 0.
}

// GB/s of payload with so many requests of a size offered at once.
static double pieces_rate(Bench &m, bool read, size_t size, int parallel) {
    int lanes = (int)size / 4, threads = parallel * lanes, block = std::min(threads, 128);
    int blocks = (threads + block - 1) / block, steps = std::min(3000, std::max(48, 4000000 / parallel));
    u32 pieces = (u32)(WINDOW / size);
    for (int count : {std::max(16, steps / 8), steps}) {  // The first warms up.
        CHECK(cudaEventRecord(m.begin, m.a));
        if (read)
            read_pieces<<<blocks, block, 0, m.a>>>((u32 *)m.up, pieces, lanes, count, threads, m.result);
        else
            write_pieces<<<blocks, block, 0, m.a>>>((u32 *)m.down, pieces, lanes, count, threads);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(m.end, m.a));
        CHECK(cudaEventSynchronize(m.end));
    }
    return 1e-3 * steps * parallel * size / elapsed_us(m.begin, m.end);
}

static void zerocopy(Bench &m, size_t size, int parallel) {
    row("zerocopy_read", "read", size, parallel, "GB_per_s", pieces_rate(m, true, size, parallel));
    row("zerocopy_write", "write", size, parallel, "GB_per_s", pieces_rate(m, false, size, parallel));
}

static void pingpong(Bench &m) {
    const u32 rounds = 20000;
    volatile u32 *ping = (volatile u32 *)m.up, *pong = (volatile u32 *)(m.up + 4096);
    std::vector<double> ns;
    bool lost = false;
    answer<<<1, 1, 0, m.a>>>(ping, pong, rounds, 2000000000ull);
    Clock::time_point begun = Clock::now();
    for (u32 i = 1; i <= rounds && !lost; i++) {
        Clock::time_point t = Clock::now();
        *ping = i;
        for (u32 spins = 1; *pong != i && !lost; spins++) lost = (spins & 0xffff) == 0 && since(begun) > 2.5;
        if (i > 100) ns.push_back(1e9 * since(t));
    }
    CHECK(cudaStreamSynchronize(m.a));
    *ping = *pong = 0;
    if (lost)
        fprintf(stderr, "pingpong: no answer\n");
    else
        times("pingpong", "both", 4, "ns", ns);
}

static void launch_sync(Bench &m) {
    std::vector<double> us;
    for (int i = 0; i < 1100; i++) {
        Clock::time_point t = Clock::now();
        nothing<<<1, 1, 0, m.a>>>();
        CHECK(cudaStreamSynchronize(m.a));
        if (i >= 100) us.push_back(1e6 * since(t));
    }
    times("launch_sync", "launch", 0, "us", us);
}

// --- The series --------------------------------------------------------------------------------------------------

static std::vector<size_t> powers(size_t first, std::vector<size_t> more) {
    for (size_t s = first; s <= GiB; s *= 2) more.push_back(s);
    std::sort(more.begin(), more.end());
    return more;
}

int main(int argc, char **argv) {
    double seconds = argc == 2 ? atof(argv[1]) : 0;
    if (!(seconds > 0)) {
        fprintf(stderr, "usage: %s SECONDS > gpu_gen5x16_NAME.csv\n", argv[0]);
        return 2;
    }
    Clock::time_point begun = Clock::now();
    Bench m;
    CHECK(cudaHostAlloc(&m.up, GiB, cudaHostAllocMapped));
    CHECK(cudaHostAlloc(&m.down, GiB, cudaHostAllocMapped));
    CHECK(cudaMalloc(&m.to, GiB));
    CHECK(cudaMalloc(&m.from, GiB));
    CHECK(cudaMalloc(&m.result, sizeof *m.result));
    CHECK(cudaMemset(m.from, 0x5a, GiB));
    memset(m.up, 0, GiB);
    memset(m.down, 0, GiB);
    for (cudaStream_t *s : {&m.a, &m.b, &m.held}) CHECK(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking));
    for (cudaEvent_t *e : {&m.begin, &m.end, &m.other, &m.all, &m.gate}) CHECK(cudaEventCreate(e));

    std::vector<size_t> sizes = powers(64, {3 * KiB, 12 * KiB, 96 * KiB, 3 * MiB, 48 * MiB});
    std::vector<size_t> both =
        powers(4 * KiB, {12 * KiB, 48 * KiB, 96 * KiB, 192 * KiB, 384 * KiB, 768 * KiB, 1536 * KiB, 3 * MiB, 6 * MiB,
                         12 * MiB, 48 * MiB, 192 * MiB});
    std::vector<size_t> queued = {4 * KiB,   8 * KiB,   16 * KiB,  32 * KiB,  64 * KiB, 128 * KiB, 192 * KiB,
                                  256 * KiB, 512 * KiB, 768 * KiB, MiB,       2 * MiB,  4 * MiB,   16 * MiB};
    std::vector<size_t> spans = {64 * KiB, 128 * KiB, 256 * KiB, MiB,      2 * MiB,   4 * MiB,
                                 8 * MiB,  16 * MiB,  32 * MiB,  64 * MiB, 256 * MiB, GiB};
    std::mt19937_64 random(20261126);

    printf("experiment,direction,size_bytes,parallel,metric,value\n");
    for (Clock::time_point t = Clock::now(); since(t) < 0.5;) pieces_rate(m, true, 128, 1024);  // The clocks up first.
    for (int r = 0; r < REPEATS; r++) {
        Clock::time_point t = Clock::now();
        for (size_t size : both) copy_bidir(m, size);
        for (size_t size : sizes)
            for (bool h2d : {true, false}) {
                copy_stream(m, h2d, size);
                copy_sync(m, h2d, size);
            }
        for (bool h2d : {true, false}) {
            for (size_t size : queued) copy_queued(m, h2d, size, 0);
            for (size_t size : {4 * KiB, 64 * KiB, 256 * KiB, MiB}) copy_queued(m, h2d, size, BESIDE);
        }
        for (int size : {4, 8, 16, 32, 64, 128})  // From one warp on, to 131,072 threads.
            for (int parallel = 128 / size; parallel <= std::min(16384, 524288 / size); parallel *= 2) {
                zerocopy(m, size, parallel);
                if (size < 32 && parallel < 16384) zerocopy(m, size, parallel * 3 / 2);
            }
        for (size_t span : spans) zerocopy_chase(m, span, random);
        pingpong(m);
        launch_sync(m);
        fprintf(stderr, "repetition %d ended after %.1f s\n", r, since(begun));
        if (since(begun) + since(t) > seconds) break;
    }
    return 0;
}

// Counts what an NVIDIA GPU puts on its PCIe link: bytes each way per copy, launch, semaphore and access of a thread,
// by the counters of the GPU itself. Prints CSV rows
//
//     experiment,direction,size_bytes,parallel,metric,value
//
//     nvcc -O3 -arch=sm_90 -o pcie_counters bench/gpu/pcie_counters.cu && ./pcie_counters SECONDS > counters.csv
//     ncu --replay-mode app-range --metrics pcie__read_bytes.sum,pcie__write_bytes.sum ./pcie_counters ranges
//
// bench/gpu/counters.sh does both, and what belongs to them.
//
// Three sources, those that answer: NVML's cumulative counters (fields 197, 198), NVML's GPM, and NVML's throughput
// over 20 ms; the second command has a profiler count each load as a range. rx is what the GPU receives, tx what it
// sends. The series is repeated until SECONDS are over, at most REPEATS times; a row is printed as soon as it is
// measured. Needs 0.5 GiB of host memory that can be pinned and as much of the GPU's.

#include <cuda.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

// From cuda_profiler_api.h, which not every installation has; in the runtime library they are always.
extern "C" cudaError_t CUDARTAPI cudaProfilerStart(void);
extern "C" cudaError_t CUDARTAPI cudaProfilerStop(void);

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using Clock = std::chrono::steady_clock;

static const int REPEATS = 5;
static const size_t KiB = 1 << 10, MiB = 1 << 20;
static const size_t WINDOW = 256 * MiB;  // of each buffer
static const int GROUPS = 16384;         // accesses of threads in flight
static const double LOAD_S = 0.12;       // of one load
static const double CHUNK_BYTES = 1.5e9;  // most bytes between two readings: counters wrap at 2^32

#define CHECK(call)                                                                                     \
    do {                                                                                                \
        cudaError_t error_ = (call);                                                                    \
        if (error_ != cudaSuccess) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

static double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

static void pause_s(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

static void row(const char *experiment, const char *direction, size_t size, size_t parallel, const char *metric, double value) {
    printf("%s,%s,%zu,%zu,%s,%.7g\n", experiment, direction, size, parallel, metric, value);
    fflush(stdout);
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

__device__ inline void store(std::uint8_t *p, u32 v) { asm volatile("st.global.u8 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }

__device__ inline u32 seed(u64 x) {  // splitmix64: neighbours begin far from each other
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return (u32)(x ^ (x >> 31));
}

__device__ inline u32 next(u32 x) { return x * 1664525u + 1013904223u; }

__global__ void nothing() {}

template <int N>
struct Args {
    char bytes[N];
};

template <int N>
__global__ void take(const Args<N> args, char *sink) {
    if (sink) *sink = args.bytes[N - 1];
}

// Groups of `lanes` threads read one piece of 4 x lanes bytes, then another one.
__global__ void read_pieces(const u32 *memory, u32 pieces, int lanes, int steps, u32 start, u64 *sink) {
    int thread = blockIdx.x * blockDim.x + threadIdx.x;
    u32 lane = thread % lanes, x = seed(thread / lanes + ((u64)start << 32)), sum = 0;
    for (int i = 0; i < steps; i++) {
        u32 v = load(memory + (size_t)__umulhi(x, pieces) * lanes + lane);
        sum += v;
        x = next(x + v);  // All words are 0; the compiler cannot know, so the next read waits for this one.
    }
    if (sum == 0xffffffffu) *sink = sum;
}

// The same of writes; a thread stores a T.
template <typename T>
__global__ void write_pieces(T *memory, u32 pieces, int lanes, int steps, u32 start) {
    int thread = blockIdx.x * blockDim.x + threadIdx.x;
    u32 lane = thread % lanes, x = seed(thread / lanes + ((u64)start << 32));
    for (int i = 0; i < steps; i++) {
        store(memory + (size_t)__umulhi(x, pieces) * lanes + lane, (u32)(i | 1));
        x = next(x);
    }
}

// Warps read or write neighbouring pieces of 32 x sizeof(T) bytes, in order.
template <typename T>
__global__ void read_in_order(const T *memory, size_t count, u64 *sink) {
    u32 sum = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x) {
        T v = memory[i];
        sum += *(const u32 *)&v;
    }
    if (sum == 0xffffffffu) *sink = sum;
}

template <typename T>
__global__ void write_in_order(T *memory, size_t count) {
    T v;
    memset(&v, 0x5a, sizeof v);
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x) memory[i] = v;
}

enum Atomic { ADD_DEVICE, ADD_SYSTEM, RED_SYSTEM, CAS_SYSTEM };

__global__ void atomics(u32 *memory, u32 words, int steps, u32 start, int kind, u64 *sink) {
    u32 x = seed(blockIdx.x * blockDim.x + threadIdx.x + ((u64)start << 32)), sum = 0;
    for (int i = 0; i < steps; i++) {
        u32 *p = memory + __umulhi(x, words);
        if (kind == ADD_DEVICE)
            sum += atomicAdd(p, 1);
        else if (kind == ADD_SYSTEM)
            sum += atomicAdd_system(p, 1);
        else if (kind == CAS_SYSTEM)
            sum += atomicCAS_system(p, 0x7fffffffu, 0);  // Never equal.
        else
            asm volatile("red.relaxed.sys.global.add.u32 [%0], 1;" ::"l"(p) : "memory");
        x = next(x + (sum == 0xffffffffu));
    }
    if (sum == 0xffffffffu) *sink = sum;
}

// A store and a fence of system scope, again and again: one thread per block.
__global__ void fences(volatile u32 *memory, int steps, bool store) {
    for (int i = 0; i < steps; i++) {
        if (store) memory[(size_t)(blockIdx.x * 1024 + i % 1024) * 32] = i;
        __threadfence_system();
    }
}

// One thread reads one word of the host, each time when the last has come.
__global__ void poll(const u32 *memory, u64 steps, u64 *sink) {
    u32 at = 0;
    for (u64 i = 0; i < steps; i++) at = load(memory + at);
    if (at) *sink = at;
}

// The GPU's side of a ping-pong: answers i when it sees i. Gives up after `limit_ns`. Counts its reads.
__global__ void answer(const u32 *ping, volatile u32 *pong, u32 rounds, u64 limit_ns, u64 *reads) {
    u64 t = now_ns(), n = 0;
    for (u32 i = 1; i <= rounds; i++) {
        while (true) {
            n++;
            if (load(ping) == i) break;
            if ((n & 1023) == 0 && now_ns() - t > limit_ns) return;
        }
        *pong = i;
    }
    *reads = n;
}

// --- Counters ----------------------------------------------------------------------------------------------------

// From nvml.h, whose interface is stable: only what is used here.
namespace nvml {
typedef struct Device_ *Device;
typedef struct Sample_ *Sample;
struct Field {
    unsigned field, scope;
    long long timestamp, latency_us;
    int type, status;
    union {
        double d;
        int i;
        unsigned u;
        unsigned long long ull;
        unsigned short us;
    } value;
};
struct Metric {
    unsigned id;
    int status;
    double value;
    char *names[3];
};
struct Metrics {
    unsigned version, count;
    Sample first, second;
    Metric metrics[1024];  // More than any version has.
};
struct Support {
    unsigned version, supported;
};
// Fields: NVML_FI_DEV_PCIE_COUNT_TX_BYTES, ..._RX_BYTES
const unsigned TX_BYTES = 197, RX_BYTES = 198;
// NVML_GPM_METRIC_PCIE_TX_PER_SEC, ..._RX_PER_SEC: MiB/s
const unsigned GPM_TX = 20, GPM_RX = 21;
// NVML_VALUE_TYPE_DOUBLE, ..._UNSIGNED_INT, ..._UNSIGNED_SHORT
const int DOUBLE = 0, UNSIGNED_INT = 1, SIGNED_INT = 5, UNSIGNED_SHORT = 6;
}  // namespace nvml

struct Bytes {
    double rx, tx;
};

struct Counters {
    nvml::Device device = nullptr;
    bool fields = false, gpm = false, throughput = false;
    Bytes window = {0, 0};   // what is counted between two readings of an idle link
    double settle_s = 0;     // how long the counters may lag
    u64 last_rx = 0, last_tx = 0;
    nvml::Sample samples[2] = {nullptr, nullptr};

    int (*get_fields)(nvml::Device, int, nvml::Field *) = nullptr;
    int (*get_throughput)(nvml::Device, int, unsigned *) = nullptr;
    int (*gpm_alloc)(nvml::Sample *) = nullptr;
    int (*gpm_sample)(nvml::Device, nvml::Sample) = nullptr;
    int (*gpm_metrics)(nvml::Metrics *) = nullptr;

    static double number(const nvml::Field &f) {
        switch (f.type) {
            case nvml::DOUBLE: return f.value.d;
            case nvml::UNSIGNED_INT: return f.value.u;
            case nvml::SIGNED_INT: return f.value.i;
            case nvml::UNSIGNED_SHORT: return f.value.us;
            default: return (double)f.value.ull;
        }
    }

    bool read(u64 &rx, u64 &tx) {
        nvml::Field f[2];
        memset(f, 0, sizeof f);
        f[0].field = nvml::TX_BYTES;
        f[1].field = nvml::RX_BYTES;
        if (get_fields(device, 2, f) || f[0].status || f[1].status) return false;
        tx = (u64)number(f[0]);
        rx = (u64)number(f[1]);
        return true;
    }

    // Bytes since `rx` and `tx` were read; less than 2^32.
    Bytes counted(u64 rx, u64 tx) {
        u64 rx_now = 0, tx_now = 0;
        if (!read(rx_now, tx_now)) return {NAN, NAN};
        return {(double)(u32)(rx_now - rx), (double)(u32)(tx_now - tx)};
    }

    // MiB/s between the two samples.
    bool gpm_rates(Bytes &mib_per_s) {
        static nvml::Metrics m;
        memset(&m, 0, sizeof m);
        m.version = 1;
        m.count = 2;
        m.first = samples[0];
        m.second = samples[1];
        m.metrics[0].id = nvml::GPM_RX;
        m.metrics[1].id = nvml::GPM_TX;
        int e = gpm_metrics(&m);
        if (e || m.metrics[0].status || m.metrics[1].status) {
            fprintf(stderr, "GPM metrics: error %d, %d, %d\n", e, m.metrics[0].status, m.metrics[1].status);
            return false;
        }
        mib_per_s = {m.metrics[0].value, m.metrics[1].value};
        return true;
    }

    void open(const char *bus_id);
};

template <typename F>
static bool find(void *library, F &function, const char *name) {
    function = (F)dlsym(library, name);
    if (!function) fprintf(stderr, "%s: not there\n", name);
    return function != nullptr;
}

// Ask for everything about the link that NVML may know, and find the sources that answer.
void Counters::open(const char *bus_id) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    int (*init)();
    int (*by_bus)(const char *, nvml::Device *);
    if (!library || !find(library, init, "nvmlInit_v2") || !find(library, by_bus, "nvmlDeviceGetHandleByPciBusId_v2")) {
        fprintf(stderr, "NVML is not there: %s\n", library ? "no symbols" : dlerror());
        return;
    }
    int e = init();
    if (!e) e = by_bus(bus_id, &device);
    if (e) {
        fprintf(stderr, "NVML: error %d\n", e);
        return;
    }
    if (find(library, get_fields, "nvmlDeviceGetFieldValues")) {
        const struct {
            unsigned id;
            const char *name;
        } known[] = {{197, "tx_bytes"},          {198, "rx_bytes"},        {94, "replays"},          {95, "replay_rollovers"},
                     {169, "l0_to_recovery"},    {173, "correctable"},     {174, "naks_received"},   {175, "receiver_errors"},
                     {176, "bad_tlps"},          {177, "naks_sent"},       {178, "bad_dllps"},       {181, "unsupported_requests"},
                     {182, "lcrc_errors"},       {228, "outbound_atomics"}, {229, "inbound_atomics"}};
        for (const auto &k : known) {
            nvml::Field f;
            memset(&f, 0, sizeof f);
            f.field = k.id;
            int error = get_fields(device, 1, &f);
            if (error || f.status)
                fprintf(stderr, "NVML field %u %s: error %d, %d\n", k.id, k.name, error, f.status);
            else {
                fprintf(stderr, "NVML field %u %s = %.0f (type %d)\n", k.id, k.name, number(f), f.type);
                row("field", k.name, k.id, 1, "value", number(f));
            }
        }
        u64 rx, tx;
        fields = read(rx, tx);
    }
    unsigned value = 0;
    if (find(library, get_throughput, "nvmlDeviceGetPcieThroughput")) {
        e = get_throughput(device, 1, &value);
        throughput = !e;
        fprintf(stderr, "NVML throughput: error %d, rx %u KB/s\n", e, value);
    }
    int (*supported)(nvml::Device, nvml::Support *);
    if (find(library, supported, "nvmlGpmQueryDeviceSupport") && find(library, gpm_alloc, "nvmlGpmSampleAlloc") &&
        find(library, gpm_sample, "nvmlGpmSampleGet") && find(library, gpm_metrics, "nvmlGpmMetricsGet")) {
        nvml::Support s = {1, 0};
        e = supported(device, &s);
        gpm = !e && s.supported;
        for (nvml::Sample &sample : samples)
            if (gpm && (e = gpm_alloc(&sample))) gpm = false;
        Bytes rates;
        if (gpm) {
            e = gpm_sample(device, samples[0]);
            pause_s(0.15);
            if (!e) e = gpm_sample(device, samples[1]);
            gpm = !e && gpm_rates(rates);
        }
        fprintf(stderr, "GPM: supported %u, error %d\n", s.supported, e);
    }
    fprintf(stderr, "sources: fields %s, GPM %s, throughput %s\n", fields ? "yes" : "no", gpm ? "yes" : "no", throughput ? "yes" : "no");
}

// --- Loads -------------------------------------------------------------------------------------------------------

// Something that is done again and again. `run` does so many, or about as many, waits until they are over, and returns
// how many they were. `bytes`: what one puts on the link in one direction at most, roughly.
struct Load {
    const char *experiment, *direction;
    size_t size, parallel;
    double bytes;
    std::function<size_t(size_t)> run;
    bool steady = false;  // also measured by the sources that want it to go on for long
};

struct Bench {
    char *up, *down;  // pinned host memory that the GPU reads, and that it writes
    char *to, *from;  // device memory
    char *pageable;
    u64 *result;  // device memory
    cudaStream_t a, b;
    cudaEvent_t timed, untimed, blocking;
    u32 start = 0;  // of the random places
    double polls = 0, polled = 0;
    int (*write_value)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = nullptr;
    int (*wait_value)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = nullptr;
};

static size_t done(Bench &m, size_t n) {
    CHECK(cudaGetLastError());
    CHECK(cudaStreamSynchronize(m.a));
    return n;
}

// A load of n times one call on the stream.
static std::function<size_t(size_t)> each(Bench &m, std::function<void()> call) {
    return [&m, call](size_t n) {
        for (size_t i = 0; i < n; i++) call();
        return done(m, n);
    };
}

static std::function<size_t(size_t)> each_synchronised(Bench &m, std::function<void()> call) {
    return [&m, call](size_t n) {
        for (size_t i = 0; i < n; i++) {
            call();
            CHECK(cudaStreamSynchronize(m.a));
        }
        return done(m, n);
    };
}

static void copy(Bench &m, bool h2d, size_t size, cudaStream_t stream, size_t offset = 0) {
    if (h2d)
        CHECK(cudaMemcpyAsync(m.to, m.up + offset, size, cudaMemcpyHostToDevice, stream));
    else
        CHECK(cudaMemcpyAsync(m.down + offset, m.from, size, cudaMemcpyDeviceToHost, stream));
}

template <int N>
static void add_launch(Bench &m, std::vector<Load> &loads) {
    loads.push_back({"launch_arguments", "launch", N, 1, N * 2.0 + 2000, each(m, [&m] {
                         static Args<N> args;
                         take<N><<<1, 1, 0, m.a>>>(args, nullptr);
                     })});
}

// So many steps that GROUPS accesses at once are about n.
static int steps_of(size_t n) { return (int)std::max<size_t>(1, std::min<size_t>(1 << 20, (n + GROUPS - 1) / GROUPS)); }

template <typename T>
static void add_write(Bench &m, std::vector<Load> &loads, size_t size, bool steady = false) {
    int lanes = (int)(size / sizeof(T));
    loads.push_back({"zerocopy_write", "write", size, (size_t)GROUPS, size * 1.5 + 64,
                     [&m, size, lanes](size_t n) {
                         int steps = steps_of(n);
                         write_pieces<T><<<GROUPS * lanes / 128, 128, 0, m.a>>>((T *)m.down, (u32)(WINDOW / size), lanes, steps, m.start++);
                         return done(m, (size_t)steps * GROUPS);
                     },
                     steady});
}

template <typename T>
static void add_in_order(Bench &m, std::vector<Load> &loads) {
    const size_t size = 32 * sizeof(T), most = WINDOW / size;
    for (bool read : {true, false})
        loads.push_back({read ? "zerocopy_read_in_order" : "zerocopy_write_in_order", read ? "read" : "write", size, 2048,
                         size * 1.5 + 64, [&m, size, most, read](size_t n) {
                             for (size_t left = n; left;) {
                                 size_t now = std::min(left, most);
                                 if (read)
                                     read_in_order<T><<<256, 256, 0, m.a>>>((const T *)m.up, now * 32, m.result);
                                 else
                                     write_in_order<T><<<256, 256, 0, m.a>>>((T *)m.down, now * 32);
                                 left -= now;
                             }
                             return done(m, n);
                         }});
}

// One store each way; a lost answer ends the load.
static size_t pingpong(Bench &m, size_t n) {
    volatile u32 *ping = (volatile u32 *)m.up, *pong = (volatile u32 *)m.down;
    const u32 rounds = (u32)std::min<size_t>(n, 200000);
    *ping = *pong = 0;
    answer<<<1, 1, 0, m.a>>>((u32 *)m.up, (volatile u32 *)m.down, rounds, 2000000000ull, m.result);
    Clock::time_point begun = Clock::now();
    bool lost = false;
    for (u32 i = 1; i <= rounds && !lost; i++) {
        *ping = i;
        for (u32 spins = 1; *pong != i && !lost; spins++) lost = (spins & 0xffff) == 0 && since(begun) > 2.5;
    }
    done(m, rounds);
    u64 reads = 0;
    CHECK(cudaMemcpy(&reads, m.result, sizeof reads, cudaMemcpyDeviceToHost));
    CHECK(cudaMemset(m.result, 0, sizeof *m.result));
    m.polls += reads;
    m.polled += rounds;
    *ping = *pong = 0;
    if (lost) fprintf(stderr, "pingpong: no answer\n");
    return rounds;
}

static std::vector<Load> all_loads(Bench &m) {
    std::vector<Load> loads;
    // Copies of one stream, one after the other.
    for (size_t size : {64 * 1ul, 128 * 1ul, 256 * 1ul, 512 * 1ul, KiB, 4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB, MiB, 4 * MiB, 16 * MiB, 64 * MiB, 256 * MiB})
        for (bool h2d : {true, false})
            loads.push_back({"copy", h2d ? "h2d" : "d2h", size, 1, size * 1.2 + 2000, each(m, [&m, h2d, size] { copy(m, h2d, size, m.a); }),
                             size == 64 || size == 4 * KiB || size == 16 * MiB});
    // Source and destination that begin at 4 or 64 B of a page; and sizes that are no multiple of 64.
    for (size_t size : {4 * KiB, MiB})
        for (size_t offset : {4, 64})
            for (bool h2d : {true, false})
                loads.push_back({"copy_offset", h2d ? "h2d" : "d2h", size, offset, size * 1.2 + 2000,
                                 each(m, [&m, h2d, size, offset] { copy(m, h2d, size, m.a, offset); })});
    loads.push_back({"copy_both", "both", 4 * MiB, 2, 4 * MiB * 1.2, [&m](size_t n) {
                         for (size_t i = 0; i < n; i++) {
                             copy(m, true, 4 * MiB, m.a);
                             copy(m, false, 4 * MiB, m.b);
                         }
                         CHECK(cudaStreamSynchronize(m.b));
                         return done(m, n);
                     }});
    for (size_t size : {64 * 1ul, 4 * KiB, 64 * KiB})
        for (bool h2d : {true, false})
            loads.push_back({"copy_sync", h2d ? "h2d" : "d2h", size, 1, size * 1.2 + 4000, each_synchronised(m, [&m, h2d, size] { copy(m, h2d, size, m.a); })});
    // Commands of a copy, and no payload on the link.
    for (size_t size : {64 * 1ul, 4 * KiB, 64 * KiB})
        loads.push_back({"copy_within", "d2d", size, 1, 4000, each(m, [&m, size] {
                             CHECK(cudaMemcpyAsync(m.to, m.from, size, cudaMemcpyDeviceToDevice, m.a));
                         })});
    for (size_t size : {64 * 1ul, 4 * KiB, 32 * KiB})
        loads.push_back({"copy_pageable", "h2d", size, 1, size * 1.2 + 4000, each(m, [&m, size] {
                             CHECK(cudaMemcpyAsync(m.to, m.pageable, size, cudaMemcpyHostToDevice, m.a));
                         })});
    // Launches.
    loads.push_back({"launch", "launch", 0, 1, 2000, each(m, [&m] { nothing<<<1, 1, 0, m.a>>>(); }), true});
    loads.push_back({"launch_sync", "launch", 0, 1, 4000, each_synchronised(m, [&m] { nothing<<<1, 1, 0, m.a>>>(); })});
    for (size_t nodes : {1, 16, 256}) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        CHECK(cudaStreamBeginCapture(m.a, cudaStreamCaptureModeThreadLocal));
        for (size_t i = 0; i < nodes; i++) nothing<<<1, 1, 0, m.a>>>();
        CHECK(cudaStreamEndCapture(m.a, &graph));
        CHECK(cudaGraphInstantiate(&exec, graph, 0));
        CHECK(cudaGraphUpload(exec, m.a));
        loads.push_back({"launch_graph", "launch", 0, nodes, 4000.0 * nodes, each(m, [&m, exec] { CHECK(cudaGraphLaunch(exec, m.a)); })});
    }
    add_launch<8>(m, loads);
    add_launch<64>(m, loads);
    add_launch<256>(m, loads);
    add_launch<512>(m, loads);
    add_launch<1024>(m, loads);
    add_launch<2048>(m, loads);
    add_launch<4080>(m, loads);
    // Semaphores, events, memset.
    loads.push_back({"event_record", "write", 16, 1, 2000, each(m, [&m] { CHECK(cudaEventRecord(m.timed, m.a)); }), true});
    loads.push_back({"event_record_untimed", "write", 4, 1, 2000, each(m, [&m] { CHECK(cudaEventRecord(m.untimed, m.a)); })});
    loads.push_back({"event_interrupt", "launch", 0, 1, 6000, [&m](size_t n) {  // Waits for an interrupt.
                         for (size_t i = 0; i < n; i++) {
                             nothing<<<1, 1, 0, m.a>>>();
                             CHECK(cudaEventRecord(m.blocking, m.a));
                             CHECK(cudaEventSynchronize(m.blocking));
                         }
                         return done(m, n);
                     }});
    if (m.write_value) {
        CUdeviceptr host = (CUdeviceptr)m.down, device = (CUdeviceptr)m.result;
        loads.push_back({"semaphore_host", "write", 4, 1, 2000, each(m, [&m, host] { m.write_value(m.a, host, 1, 0); })});
        loads.push_back({"semaphore_device", "write", 4, 1, 2000, each(m, [&m, device] { m.write_value(m.a, device, 0, 0); })});
    }
    if (m.wait_value) {  // Waits for 0 or more: at once.
        CUdeviceptr host = (CUdeviceptr)m.up;
        loads.push_back({"semaphore_wait_host", "read", 4, 1, 2000, each(m, [&m, host] { m.wait_value(m.a, host, 0, 0); })});
    }
    for (size_t size : {4 * 1ul, 4 * KiB, MiB})
        loads.push_back({"memset", "launch", size, 1, 2000, each(m, [&m, size] { CHECK(cudaMemsetAsync(m.to, 0, size, m.a)); })});
    // Loads and stores of threads.
    for (size_t size : {4, 8, 16, 32, 64, 128})
        loads.push_back({"zerocopy_read", "read", size, (size_t)GROUPS, size * 1.5 + 96,
                         [&m, size](size_t n) {
                             int steps = steps_of(n), lanes = (int)size / 4;
                             read_pieces<<<GROUPS * lanes / 128, 128, 0, m.a>>>((u32 *)m.up, (u32)(WINDOW / size), lanes, steps, m.start++, m.result);
                             return done(m, (size_t)steps * GROUPS);
                         },
                         size == 32 || size == 128});
    loads.push_back({"zerocopy_poll", "read", 4, 1, 128, [&m](size_t n) {
                         poll<<<1, 1, 0, m.a>>>((u32 *)m.up, n, m.result);
                         return done(m, n);
                     }});
    add_write<std::uint8_t>(m, loads, 1);
    add_write<std::uint8_t>(m, loads, 2);
    for (size_t size : {4, 8, 16, 32, 64, 128}) add_write<u32>(m, loads, size, size == 32 || size == 128);
    add_in_order<u32>(m, loads);
    add_in_order<uint2>(m, loads);
    add_in_order<uint4>(m, loads);
    const struct {
        int kind;
        const char *name;
    } kinds[] = {{ADD_DEVICE, "atomic_add"}, {ADD_SYSTEM, "atomic_add_system"}, {RED_SYSTEM, "atomic_red_system"}, {CAS_SYSTEM, "atomic_cas_system"}};
    for (const auto &k : kinds) {
        int kind = k.kind;
        loads.push_back({k.name, "both", 4, (size_t)GROUPS, 256, [&m, kind](size_t n) {
                             int steps = steps_of(n);
                             atomics<<<GROUPS / 128, 128, 0, m.a>>>((u32 *)m.down, (u32)(WINDOW / 4), steps, m.start++, kind, m.result);
                             return done(m, (size_t)steps * GROUPS);
                         }});
    }
    for (bool store : {true, false})
        loads.push_back({store ? "store_fence" : "fence", "write", (size_t)(store ? 4 : 0), 128, 256, [&m, store](size_t n) {
                             int steps = (int)std::max<size_t>(1, std::min<size_t>(n / 128, 1 << 20));
                             fences<<<128, 1, 0, m.a>>>((volatile u32 *)m.down, steps, store);
                             return done(m, (size_t)steps * 128);
                         }});
    loads.push_back({"pingpong", "both", 4, 1, 4096, [&m](size_t n) { return pingpong(m, n); }});
    return loads;
}

// --- Measuring ---------------------------------------------------------------------------------------------------

// Bytes per operation by the cumulative counters, in chunks that they cannot wrap in.
static void by_fields(Counters &c, Bench &m, const Load &load, double op_s) {
    double most = std::min(LOAD_S / op_s, CHUNK_BYTES / load.bytes);
    size_t chunk = (size_t)std::max(1.0, most);
    size_t chunks = (size_t)std::min(c.settle_s > 0.02 ? 1.0 : 4.0, std::max(1.0, std::ceil(LOAD_S / op_s / chunk)));
    double rx = 0, tx = 0, seconds = 0;
    size_t ops = 0;
    m.polls = m.polled = 0;
    for (size_t i = 0; i < chunks; i++) {
        u64 rx0 = 0, tx0 = 0;
        if (c.settle_s > 0) pause_s(c.settle_s);
        if (!c.read(rx0, tx0)) return;
        Clock::time_point t = Clock::now();
        ops += load.run(chunk);
        seconds += since(t);
        if (c.settle_s > 0) pause_s(c.settle_s);
        Bytes b = c.counted(rx0, tx0);
        rx += b.rx - c.window.rx;
        tx += b.tx - c.window.tx;
    }
    row(load.experiment, load.direction, load.size, load.parallel, "rx_bytes_per_op", rx / ops);
    row(load.experiment, load.direction, load.size, load.parallel, "tx_bytes_per_op", tx / ops);
    row(load.experiment, load.direction, load.size, load.parallel, "ns_per_op", 1e9 * seconds / ops);
    row(load.experiment, load.direction, load.size, load.parallel, "ops", ops);
    if (m.polled > 0) row(load.experiment, load.direction, load.size, load.parallel, "reads_per_op", m.polls / m.polled);
}

// The same by sources that give rates: a load goes on beside them, and its pace is measured.
static void by_rates(Counters &c, const Load &load, double op_s) {
    std::atomic<bool> stop(false);
    double seconds = 0;
    size_t ops = 0;
    std::thread worker([&] {
        CHECK(cudaSetDevice(0));
        size_t n = (size_t)std::max(1.0, 0.01 / op_s);
        Clock::time_point t = Clock::now();
        while (!stop) ops += load.run(n);
        seconds = since(t);
    });
    pause_s(0.1);
    bool gpm = c.gpm && !c.gpm_sample(c.device, c.samples[0]);
    double rx = 0, tx = 0;
    int count = 0;
    Clock::time_point t = Clock::now();
    while (c.throughput && since(t) < 0.4) {
        unsigned r = 0, s = 0;
        if (c.get_throughput(c.device, 1, &r) || c.get_throughput(c.device, 0, &s)) break;
        rx += r;
        tx += s;
        count++;
    }
    if (since(t) < 0.4) pause_s(0.4 - since(t));
    gpm = gpm && !c.gpm_sample(c.device, c.samples[1]);
    stop = true;
    worker.join();
    Bytes rates;
    double per_op = seconds / ops;
    if (gpm && c.gpm_rates(rates)) {
        row(load.experiment, load.direction, load.size, load.parallel, "gpm_rx_bytes_per_op", rates.rx * MiB * per_op);
        row(load.experiment, load.direction, load.size, load.parallel, "gpm_tx_bytes_per_op", rates.tx * MiB * per_op);
    }
    if (count) {  // KB: 1000 or 1024 B, copies tell.
        row(load.experiment, load.direction, load.size, load.parallel, "nvml_rx_KB_per_op", rx / count * per_op);
        row(load.experiment, load.direction, load.size, load.parallel, "nvml_tx_KB_per_op", tx / count * per_op);
    }
}

// How long one takes, from ever longer runs; warms up.
static double op_seconds(const Load &load) {
    for (size_t n = 1;; n *= 4) {
        Clock::time_point t = Clock::now();
        size_t ops = load.run(n);
        double s = since(t);
        if (s > 0.004 || n * load.bytes > CHUNK_BYTES / 4) return s / ops;
    }
}

// Cost, lag and granularity of the cumulative counters, and what they count on a link that is idle.
static void resolution(Counters &c, Bench &m) {
    const int reads = 50;
    u64 rx0 = 0, tx0 = 0, rx = 0, tx = 0;
    c.read(rx0, tx0);
    Clock::time_point t = Clock::now();
    for (int i = 0; i < reads; i++) c.read(rx, tx);
    row("resolution", "both", 0, 1, "us_per_reading", 1e6 * since(t) / reads);
    row("resolution", "both", 0, 1, "rx_bytes_per_reading", (double)(u32)(rx - rx0) / reads);
    row("resolution", "both", 0, 1, "tx_bytes_per_reading", (double)(u32)(tx - tx0) / reads);

    // Lag: when the count of a copy last grows, after its end. No lag if it is all there at the first reading.
    double lag = 0;
    for (int i = 0; i < 5; i++) {
        copy(m, true, 64 * MiB, m.a);
        done(m, 1);
        t = Clock::now();
        c.read(rx0, tx0);
        while (since(t) < 0.3) {
            c.read(rx, tx);
            if ((u32)(rx - rx0) > 256 * KiB) lag = std::max(lag, since(t));
            rx0 = rx;
        }
    }
    c.settle_s = std::min(0.25, 1.25 * lag);
    row("resolution", "both", 0, 1, "lag_ms", 1e3 * lag);

    u64 rx_step = 0, tx_step = 0;  // Greatest common divisors of what small copies add.
    c.read(rx0, tx0);
    for (int i = 0; i < 200; i++) {
        copy(m, i & 1, 4 + 4 * (i % 61), m.a);
        done(m, 1);
        c.read(rx, tx);
        rx_step = std::gcd(rx_step, (u64)(u32)(rx - rx0));
        tx_step = std::gcd(tx_step, (u64)(u32)(tx - tx0));
        rx0 = rx, tx0 = tx;
    }
    row("resolution", "both", 0, 1, "rx_granularity_bytes", (double)rx_step);
    row("resolution", "both", 0, 1, "tx_granularity_bytes", (double)tx_step);

    std::vector<double> rxs, txs;
    for (int i = 0; i < 15; i++) {
        if (c.settle_s > 0) pause_s(c.settle_s);
        c.read(rx0, tx0);
        if (c.settle_s > 0) pause_s(c.settle_s);
        Bytes b = c.counted(rx0, tx0);
        rxs.push_back(b.rx);
        txs.push_back(b.tx);
    }
    std::sort(rxs.begin(), rxs.end());
    std::sort(txs.begin(), txs.end());
    c.window = {rxs[rxs.size() / 2], txs[txs.size() / 2]};
    row("resolution", "both", 0, 1, "rx_bytes_per_window", c.window.rx);
    row("resolution", "both", 0, 1, "tx_bytes_per_window", c.window.tx);

    c.read(rx0, tx0);
    pause_s(1);
    Bytes idle = c.counted(rx0, tx0);
    row("idle", "both", 0, 1, "rx_bytes_per_s", idle.rx - c.window.rx);
    row("idle", "both", 0, 1, "tx_bytes_per_s", idle.tx - c.window.tx);
}

// Whether the loads do what they are counted for.
static bool check(Bench &m) {
    bool good = true;
    auto expect = [&good](bool so, const char *what) {
        if (!so) fprintf(stderr, "check failed: %s\n", what);
        good = good && so;
    };
    u32 *up = (u32 *)m.up, *down = (u32 *)m.down;
    for (u32 i = 0; i < MiB / 4; i++) up[i] = i * 2654435761u;
    CHECK(cudaMemcpyAsync(m.from, m.up, MiB, cudaMemcpyHostToDevice, m.a));
    CHECK(cudaMemcpyAsync(m.down, m.from, MiB, cudaMemcpyDeviceToHost, m.a));
    done(m, 1);
    expect(!memcmp(m.up, m.down, MiB), "a copy there and back");
    memset(m.up, 0, MiB);
    memset(m.down, 0, MiB);
    atomics<<<GROUPS / 128, 128, 0, m.a>>>(down, MiB / 4, 2, 1, ADD_SYSTEM, m.result);
    atomics<<<GROUPS / 128, 128, 0, m.a>>>(down, MiB / 4, 2, 2, RED_SYSTEM, m.result);
    done(m, 1);
    u64 sum = 0;
    for (u32 i = 0; i < MiB / 4; i++) sum += down[i];
    expect(sum == 4ull * GROUPS, "sum of atomics");
    memset(m.down, 0, MiB);
    write_in_order<uint4><<<256, 256, 0, m.a>>>((uint4 *)m.down, MiB / 16);
    done(m, 1);
    expect(m.down[0] == 0x5a && m.down[MiB - 1] == 0x5a, "writes in order");
    memset(m.down, 0, MiB);
    write_pieces<u32><<<GROUPS / 128, 128, 0, m.a>>>(down, MiB / 4, 1, 4, 1);
    done(m, 1);
    size_t written = 0;
    for (u32 i = 0; i < MiB / 4; i++) written += down[i] != 0;
    expect(written > 2 * GROUPS && written <= 4 * GROUPS, "writes of pieces");
    memset(m.down, 0, MiB);
    expect(pingpong(m, 100) == 100 && m.polls >= 100, "ping-pong");
    return good;
}

int main(int argc, char **argv) {
    bool ranges = argc >= 2 && !strcmp(argv[1], "ranges");
    double budget = argc == 2 && !ranges ? atof(argv[1]) : 0;
    if (!ranges && !(budget > 0)) {
        fprintf(stderr, "usage: %s SECONDS > counters.csv, or %s ranges [EXPERIMENT ...] within a profiler\n", argv[0], argv[0]);
        return 2;
    }
    Clock::time_point begun = Clock::now();
    Bench m;
    CHECK(cudaSetDevice(0));
    CHECK(cudaHostAlloc(&m.up, WINDOW + 4 * KiB, cudaHostAllocMapped));
    CHECK(cudaHostAlloc(&m.down, WINDOW + 4 * KiB, cudaHostAllocMapped));
    CHECK(cudaMalloc(&m.to, WINDOW));
    CHECK(cudaMalloc(&m.from, WINDOW));
    CHECK(cudaMalloc(&m.result, sizeof *m.result));
    CHECK(cudaMemset(m.from, 0x5a, WINDOW));
    CHECK(cudaMemset(m.result, 0, sizeof *m.result));
    memset(m.up, 0, WINDOW + 4 * KiB);
    memset(m.down, 0, WINDOW + 4 * KiB);
    m.pageable = (char *)calloc(1, 64 * KiB);
    for (cudaStream_t *s : {&m.a, &m.b}) CHECK(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&m.timed));
    CHECK(cudaEventCreateWithFlags(&m.untimed, cudaEventDisableTiming));
    CHECK(cudaEventCreateWithFlags(&m.blocking, cudaEventDisableTiming | cudaEventBlockingSync));
    CHECK(cudaDeviceSynchronize());
    if (void *cuda = dlopen("libcuda.so.1", RTLD_NOW)) {
        find(cuda, m.write_value, "cuStreamWriteValue32_v2");
        find(cuda, m.wait_value, "cuStreamWaitValue32_v2");
    }
    if (m.write_value && m.write_value(m.a, (CUdeviceptr)m.down, 0, 0)) m.write_value = nullptr;
    if (m.wait_value && m.wait_value(m.a, (CUdeviceptr)m.up, 0, 0)) m.wait_value = nullptr;
    done(m, 1);
    std::vector<Load> loads = all_loads(m);

    if (ranges) {  // A range each, of a fixed number of operations, so that every pass of the profiler is the same.
        size_t index = 0;
        for (const Load &load : loads) {
            bool named = argc == 2;  // Those whose names begin as one that was given.
            for (int i = 2; i < argc; i++) named = named || !strncmp(load.experiment, argv[i], strlen(argv[i]));
            if (!named) continue;
            size_t n = (size_t)std::min(load.bytes < 1000 ? 1e6 : 3000.0, std::max(4.0, 512e6 / load.bytes));
            load.run(1);
            CHECK(cudaDeviceSynchronize());
            CHECK(cudaProfilerStart());
            size_t ops = load.run(n);
            CHECK(cudaDeviceSynchronize());
            CHECK(cudaProfilerStop());
            printf("range,%zu,%s,%s,%zu,%zu,%zu\n", index++, load.experiment, load.direction, load.size, load.parallel, ops);
            fflush(stdout);
        }
        return 0;
    }

    printf("experiment,direction,size_bytes,parallel,metric,value\n");
    row("check", "both", 0, 1, "passed", check(m));
    Counters c;
    char bus_id[32] = "";
    CHECK(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, 0));
    c.open(bus_id);
    if (!c.fields && !c.gpm && !c.throughput) {
        fprintf(stderr, "no counter answers\n");
        return 1;
    }
    for (Clock::time_point t = Clock::now(); since(t) < 0.5;) loads[0].run(1000);  // The clocks up first.
    if (c.fields) resolution(c, m);
    for (int r = 0; r < REPEATS; r++) {
        Clock::time_point t = Clock::now();
        for (const Load &load : loads) {
            double op_s = op_seconds(load);
            if (c.fields) by_fields(c, m, load, op_s);
            if ((c.gpm || c.throughput) && (r == 0 && load.steady || !c.fields)) by_rates(c, load, op_s);
            if (since(begun) > budget) {
                fprintf(stderr, "stopped within repetition %d at %.1f s\n", r, since(begun));
                return 0;
            }
        }
        fprintf(stderr, "repetition %d ended after %.1f s\n", r, since(begun));
        if (since(begun) + 0.9 * since(t) > budget) break;
    }
    return 0;
}

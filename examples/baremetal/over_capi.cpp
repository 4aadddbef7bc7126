// SPDX-License-Identifier: Apache-2.0
//
// The same in C++17: the NIC as an object that cleans up after itself and whose errors are exceptions.
//
//     c++ -std=c++17 over_capi.cpp e1000_min.o $(e1000emu capi --out build --cflags --libs)
#include <e1000emu.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "e1000_min.h"

class NicError : public std::runtime_error {
public:
    NicError(int code) : std::runtime_error(e1000emu_last_error()), code(code) {}
    const int code;
};

class Nic {
public:
    explicit Nic(const e1000emu_options &options) : handle_(e1000emu_create(&options))
    {
        if (!handle_)
            throw NicError(e1000emu_last_code());
    }
    // The callbacks point here: a Nic stays where it is.
    Nic(const Nic &) = delete;
    Nic &operator=(const Nic &) = delete;
    ~Nic() { e1000emu_destroy(handle_); }

    std::uint32_t read32(std::uint64_t offset)
    {
        std::uint64_t value;
        check(e1000emu_mmio_read(handle_, offset, 4, &value));
        return static_cast<std::uint32_t>(value);
    }
    void write32(std::uint64_t offset, std::uint32_t value)
    {
        check(e1000emu_mmio_write(handle_, offset, 4, value));
    }
    void map(std::uint64_t base, void *memory, std::size_t size)
    {
        check(e1000emu_dma_add(handle_, base, memory, size, E1000EMU_DMA_READ | E1000EMU_DMA_WRITE));
    }
    void advance(std::uint64_t ns) { check(e1000emu_advance(handle_, ns)); }

    // `fn` gets each frame as it leaves. It must not throw: a C library is in between.
    void on_frame(std::function<void(std::string_view)> fn)
    {
        on_frame_ = std::move(fn);
        check(e1000emu_set_tx(
            handle_,
            [](void *self, const e1000emu_frame *frames, std::size_t count) {
                for (std::size_t i = 0; i < count; i++)
                    static_cast<Nic *>(self)->on_frame_(
                        {static_cast<const char *>(frames[i].data), frames[i].size});
            },
            this));
    }
    void on_irq(std::function<void(bool)> fn)
    {
        on_irq_ = std::move(fn);
        check(e1000emu_set_irq(
            handle_, [](void *self, int level) { static_cast<Nic *>(self)->on_irq_(level != 0); },
            this));
    }
    // False when the NIC has no room now.
    bool push(std::string_view frame)
    {
        const e1000emu_frame one = {frame.data(), frame.size()};
        std::size_t taken;
        check(e1000emu_rx_push(handle_, &one, 1, &taken));
        return taken == 1;
    }
    std::string misuse() { return text(e1000emu_misuse); }
    std::string explain() { return text(e1000emu_explain); }
    std::vector<char> save()
    {
        std::size_t size = 0;
        check(e1000emu_state_save(handle_, nullptr, &size));
        std::vector<char> state(size);
        check(e1000emu_state_save(handle_, state.data(), &size));
        return state;
    }
    void load(const std::vector<char> &state)
    {
        check(e1000emu_state_load(handle_, state.data(), state.size()));
    }

private:
    static void check(int code)
    {
        if (code)
            throw NicError(code);
    }
    std::string text(int (*get)(e1000emu_nic *, void *, std::size_t *))
    {
        std::size_t size = 0;
        check(get(handle_, nullptr, &size));
        std::string out(size, '\0');
        check(get(handle_, out.data(), &size));
        out.resize(size - 1); // the NUL
        return out;
    }

    e1000emu_nic *handle_;
    std::function<void(std::string_view)> on_frame_;
    std::function<void(bool)> on_irq_;
};

// What e1000_min asks for. Nothing is thrown through C: a bus that fails reads as ones.
uint32_t e1000_min_read32(void *ctx, uint32_t off)
{
    try {
        return static_cast<Nic *>(ctx)->read32(off);
    } catch (const NicError &) {
        return 0xFFFFFFFFu;
    }
}

void e1000_min_write32(void *ctx, uint32_t off, uint32_t value)
{
    try {
        static_cast<Nic *>(ctx)->write32(off, value);
    } catch (const NicError &) {
    }
}

static void expect(bool holds, const char *what)
{
    if (!holds)
        throw std::runtime_error(what);
}

static void run()
{
    constexpr std::uint64_t bus = 0x100000;
    auto memory = std::make_unique<std::array<std::uint8_t, E1000_MIN_MEM_BYTES>>();
    std::array<char, E1000_MIN_BUF_BYTES> buffer;
    e1000emu_options options = E1000EMU_OPTIONS_INIT;
    options.flags = E1000EMU_PCI_ON;
    Nic nic(options);
    int interrupts = 0;

    nic.map(bus, memory->data(), memory->size());
    nic.on_irq([&](bool level) { interrupts += level; });
    // A far end that sends each frame back to where it came from.
    nic.on_frame([&](std::string_view frame) {
        std::string back(frame);
        back.replace(0, 6, frame.substr(6, 6));
        back.replace(6, 6, frame.substr(0, 6));
        nic.push(back);
    });

    e1000_min driver;
    expect(e1000_min_init(&driver, &nic, memory->data(), bus, memory->size()) == 0, "init");
    while (!e1000_min_link_up(&driver))
        nic.advance(100'000'000);
    e1000_min_enable_irq(&driver, E1000_MIN_IRQ_RXT0);

    std::string frame(64, '.');
    frame.replace(0, 6, std::string_view("\2\0\0\0\0\1", 6));
    frame.replace(6, 6, reinterpret_cast<const char *>(driver.mac), 6);
    frame.replace(12, 12, "\x88\xB5hello, C++");
    expect(e1000_min_send(&driver, frame.data(), static_cast<uint32_t>(frame.size())) == 0, "send");
    const int size = e1000_min_recv(&driver, buffer.data(), buffer.size());
    expect(size == 64, "the frame comes back");
    std::printf("came back: %.10s, %d interrupt\n", buffer.data() + 14, interrupts);
    expect(interrupts == 1, "one interrupt");

    Nic twin(options);
    twin.load(nic.save());
    expect(twin.read32(0x0008) == nic.read32(0x0008), "the twin has the same STATUS");
    expect(nic.misuse().empty(), "no misuse");

    try {
        options.model = "i8255x";
        Nic other(options);
        expect(false, "an unknown model is refused");
    } catch (const NicError &error) {
        std::printf("refused:   %s\n", error.what());
        expect(error.code == E1000EMU_EINVAL, "EINVAL");
    }
}

int main()
{
    try {
        run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "over_capi: %s\n", error.what());
        return 1;
    }
    return 0;
}

package jail

// SteadyMonitor is a setting of GODEBUG for processes with one processor that wake often for
// little work. Without it the Go runtime's monitor thread goes to sleep with the process and
// is woken with it, to look every 20 µs: on a loaded machine a fifth of the processor time of
// such a process, and several context switches for each message. With it the monitor settles
// at one look every 10 ms, which is all that is needed where no system call blocks. The
// setting is that of the scheduler's trace, with its longest interval of 24 days; one line
// each time is its only other effect.
//
// The price is that the monitor looks also while the process rests: a few roles and sandboxes
// do not notice, a thousand resting workers would have a processor for nothing else.
const SteadyMonitor = "schedtrace=2147483647"

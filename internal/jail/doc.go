// Package jail starts processes and locks processes down. It is the only package that may start one.
//
// Three parties use it. A process calls [Lockdown] on itself once it has everything open that it needs; from then on it
// keeps only what its [Profile] names, for good. The runner owns a [Spawner], which starts workers and sandboxes inside
// namespaces that it prepared once. The supervisor starts roles with [StartRole]. [Probe] tells an operator what a host
// offers.
//
// Layers are of two sorts. The required ones (no_new_privs, seccomp default deny, Landlock, rlimits, not dumpable, no
// capabilities, a heap watchdog) hold the rule that customer code has no key, no credential, no network and no file on any
// supported host, an ordinary container included; where one is missing, Lockdown fails and says what to do. The added ones
// (namespaces with an empty root, a uid per process, cgroups) are used wherever the host allows and named in a [Report]
// where it does not. Nothing here can be switched off at run time; tests switch single layers off under the build tag
// redtwin to show that each one stops something.
//
// A Spawner is safe for concurrent use. Its two operating system threads, one for each kind of child, are never given back
// to the Go scheduler: they live in other namespaces. A Process is safe for concurrent use and must be waited for by its
// owner. When the process that owns a Spawner dies, the kernel kills its children.
//
// Systems other than Linux compile and answer [ErrUnsupported].
package jail

// Package bench measures the platform as its users would: all roles as processes of their
// own, state on disk with durable commits, webhooks over HTTP, and an upstream that counts
// what reaches it. Nothing of it is in a released program.
//
// Three kinds of processes take part. The bench itself deploys integrations, reads what
// processes cost from /proc and prints. The platform is started by it. The load is one
// process with one thread, which sends events over kept-alive connections and is also the
// upstream that the integrations call, so that one clock measures both ends; its processor
// time is told apart from the platform's.
//
// A run fails when an event that was accepted did not have its effect exactly once: a fast
// answer to the wrong question is no figure. Times are never compared with limits; only
// [Compare] compares, and it warns.
package bench

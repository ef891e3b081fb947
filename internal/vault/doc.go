// Package vault is the role that holds keys: it makes, wraps, opens and destroys
// them, certifies processes, and grants leases.
//
// The hierarchy (design section 5, doc/decisions/keys.md): a root key of 32 bytes
// comes from outside. Keys derived from it wrap the seeds of the vault's own keys
// and the customer keys, and make the MAC over the keystore's head. A customer key
// wraps the rest of that customer: payload pairs, instance keys, credential records.
// Every stored ciphertext is bound by its associated data to format, customer,
// table, row, column and version.
//
// Authority: the vault owns the keystore, the list of live identities, the
// NATS operator and account, and its log. It decides on nothing but what is signed
// or stored: a lease needs a dispatch signed by a live server and a request signed
// by the runner named in it.
//
// A leaf for each lease, each view and each change is committed before the answer,
// in the transaction of the change. Versions, owners and days that a lease was made
// from are checked again in that transaction, so a lease is never newer than a
// deletion.
//
// Concurrency: all methods of [Vault] are safe for concurrent use.
//
// Failure: whoever asks learns [ErrRefused], [ErrBusy] or [ErrUnavailable] and no
// more; the reason is logged here, once, without secrets. Default deny: what the
// keystore or the ledger does not know is refused.
//
// Limits of what Go can promise: keys that this package keeps as bytes are
// overwritten by [Vault.Close] and after use; copies inside cipher objects of the
// standard library and of Tink are only dropped.
package vault

// Package oauth is the token engine: it obtains, renews and gives up the tokens of one
// connection as the recipe of its auth method says (package credential).
//
// Purpose: a [Grant] joins the method, the values of its variables, and the secrets of one
// connection and its client. [Grant.Run] makes one leg (exchange of a code, refresh, mint),
// [Grant.Revoke] gives tokens up. [AuthorizeURL] and [Grant.Callback] are the two sides of the browser's way.
//
// Authority: the engine sends secrets only to URLs of the recipe, whose hosts are fixed or follow
// the rules of their variables and kept values. It keeps nothing: the [Doer] commits an answer before
// it returns it, so that a process that dies can go on from it by a Doer that returns it again; and
// whoever runs a leg saves the [Tokens] before they are used.
//
// Order of a leg: one request that may consume what cannot be had again (a code, a rotating refresh
// token), its answer, then the further steps, which can all be repeated.
//
// Concurrency: a Grant is used by one goroutine. Nothing is shared.
//
// Failure: errors are [*Fault] and say what is known: refused (the grant is gone), temporary,
// configuration (nobody but the operator can help), unsent, ambiguous (sent, and no answer that
// says anything), protocol (an answer that cannot be accepted). Messages hold nothing of what the
// other side sent but an error code of plain characters.
//
// The specifications: RFC 6749, 6750, 7009, 7521, 7523, 7591, 7636, 7662, 8414, 9207, 9700, 9728;
// OpenID Connect Core 1.0 section 3.1.3.7.
package oauth

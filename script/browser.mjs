// Connects customers through a browser and judges what they see; see script/browser, which starts what is needed.
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const { BULKHEAD, CHROMIUM, HARBOUR, MODULES, WORK } = process.env
const { chromium } = createRequire(`${MODULES}/`)('playwright-core')
const shots = process.argv[2]
const desktop = { width: 1100, height: 900 }
const phone = { width: 375, height: 740 }

const bulkhead = (...args) => execFileSync(BULKHEAD, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const connections = customer => bulkhead('connections', '--customer', customer, '--connector', 'harbour', '--json').split('\n').filter(Boolean).map(JSON.parse)

let checks = 0
function check(ok, what) {
  checks++
  if (!ok) throw new Error(what)
}

async function get(path) {
  const a = await fetch(HARBOUR + path)
  return a.text()
}

// prepare makes the connector of its API description, and a template with its client.
async function prepare() {
  const file = (name, text) => (writeFileSync(`${WORK}/${name}`, text), `${WORK}/${name}`)
  const document = file('openapi.json', await get('/openapi.json'))
  const side = file('side.yaml', await get('/sidecar.yaml'))
  bulkhead('connectors', 'import', document, '--sidecar', side, '-o', `${WORK}/harbour`)
  bulkhead('connectors', 'publish', `${WORK}/harbour/connector.yaml`)
  const secret = file('secret', await get('/client-secret'))
  bulkhead('templates', 'put', 'harbour', '--customer', '*', '--field', 'client_id=text:bulkhead-sample', '--field', `client_secret=file:${secret}`)
  bulkhead('brand', 'put', '--title', 'Paperworks', '--colour', 'accent=#0a6b5a', '--colour', 'background=#e8f1ee')
}

const link = (customer, ...more) => bulkhead('connect-link', customer, 'harbour', ...more).trim()

// visit opens a browser of its own for a person, and fails for anything that it complains about.
async function visit(browser, viewport, does) {
  const context = await browser.newContext({ viewport, deviceScaleFactor: 2, hasTouch: viewport.width < 500, isMobile: viewport.width < 500 })
  const page = await context.newPage()
  const complaints = []
  page.on('console', m => complaints.push(`${m.type()}: ${m.text()}`))
  page.on('pageerror', e => complaints.push(String(e)))
  page.on('response', r => {
    const policy = r.headers()['content-security-policy'] || ''
    if (r.request().isNavigationRequest() && r.status() !== 303 && !(policy.includes("default-src 'none'") && policy.includes("frame-ancestors 'none'") && !policy.includes('unsafe'))) {
      complaints.push(`${r.url()} has the policy "${policy}"`)
    }
  })
  try {
    await does(page)
  } finally {
    await context.close()
  }
  // That a page was answered with an error is the browser's own line, and not about what is in it.
  const real = complaints.filter(c => !/Failed to load resource: the server responded with a status of 4/.test(c))
  check(real.length === 0, `the browser complains:\n${real.join('\n')}`)
}

const heading = page => page.locator('h1').innerText()
const button = (page, name) => page.getByRole('button', { name })

// twice clicks a button, and again while the first click is being answered: never what stands there on the next page.
const twice = locator => locator.evaluate(b => {
  b.click()
  setTimeout(() => b.click(), 15)
})

async function says(page, what, text) {
  await page.getByText(text, { exact: false }).first().waitFor({ timeout: 15000 }).catch(async () => {
    throw new Error(`${what}: want "${text}", the page says:\n${await page.locator('body').innerText()}`)
  })
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth)
  check(wide <= 0, `${what}: the page is ${wide} px too wide`)
  checks++
}

async function shot(page, name) {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true })
}

// connects: somebody opens a link, agrees, and is connected. The link and the way back lead nowhere then.
async function connects(page, customer, title, names) {
  const address = link(customer)
  await page.goto(address)
  await says(page, 'the link', 'Paperworks asks you to connect an account')
  check((await page.locator('.facts').innerText()).includes('parcels.write'), 'the page does not say what it asks for')
  await shot(page, names[0])
  await button(page, 'Continue to Harbour').click()
  await says(page, 'the provider', 'Let Bulkhead use your account?')
  await shot(page, names[1])
  await page.getByLabel(title).check()
  await button(page, 'Allow').click()
  await says(page, 'the end', `Connected as ${title}`)
  check(await heading(page) === 'Harbour is connected', 'the heading does not say that it is connected')
  check(!(await page.content()).includes('code='), 'the page repeats what the provider said')
  await shot(page, names[2])
  check(connections(customer).length === 1, 'there is not one connection')

  await page.reload()
  await says(page, 'the end again', 'Harbour is connected')
  await page.goBack()
  await says(page, 'back', 'Let Bulkhead use your account?')
  await button(page, 'Allow').click()
  await says(page, 'agreeing again', 'Harbour is connected')
  await page.goto(address)
  await says(page, 'the link again', 'This link cannot be used')
  check(connections(customer).length === 1, 'the link connected twice')
}

// impatient: somebody clicks twice wherever there is something to click.
async function impatient(page) {
  await page.goto(link('acme', '--name', 'second'))
  await twice(button(page, 'Continue to Harbour'))
  await says(page, 'the provider', 'Let Bulkhead use your account?')
  await page.getByLabel('Acme Corporation').check()
  await twice(button(page, 'Allow'))
  await says(page, 'the end', 'Harbour is connected')
  check(connections('acme').length === 2, 'two clicks do not make one connection')
}

// declines: somebody says no, comes back, and agrees.
async function declines(page) {
  await page.goto(link('acme', '--name', 'third'))
  await button(page, 'Continue to Harbour').click()
  await button(page, 'No').click()
  await says(page, 'the end', 'You did not agree at Harbour')
  await shot(page, 'declined')
  await page.getByRole('link', { name: 'Try again' }).click()
  await says(page, 'the link', 'Paperworks asks you to connect an account')
  await page.goBack()
  await page.goForward()
  await button(page, 'Continue to Harbour').click()
  await page.getByLabel('Acme Corporation').check()
  await button(page, 'Allow').click()
  await says(page, 'the end', 'Connected as Acme Corporation')
}

// keyboard: somebody does all of it by the keyboard.
async function keyboard(page) {
  await page.goto(link('acme', '--name', 'fourth'))
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await says(page, 'the provider', 'Let Bulkhead use your account?')
  await page.keyboard.press('Tab')
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await says(page, 'the end', 'Connected as Acme Corporation')
}

// key enters a key on a phone. A field that is wrong is said where it is; a secret never comes back, and what was not secret does.
async function key(page) {
  const address = bulkhead('connect-link', 'acme', 'zendesk').trim()
  await page.goto(address)
  await says(page, 'the form', 'Paperworks asks you to connect')
  await page.getByLabel('Subdomain').fill('not a name')
  await page.getByLabel('E-mail of the user').fill('ann@acme.example')
  await page.getByLabel('API token').fill('canary-of-a-phone')
  await shot(page, 'key-phone')
  await button(page, 'Connect').click()
  await says(page, 'the form', 'Please check')
  await shot(page, 'key-phone-wrong')
  check(!(await page.content()).includes('canary-of-a-phone'), 'a secret came back')
  check(await page.getByLabel('E-mail of the user').inputValue() === 'ann@acme.example', 'what was entered is lost')
  await page.getByLabel('Subdomain').fill('acme')
  await page.getByLabel('API token').fill('canary-of-a-phone')
  await twice(button(page, 'Connect'))
  await says(page, 'the end', 'Zendesk Support is connected')
  await page.reload()
  await says(page, 'the end again', 'Zendesk Support is connected')
  check(bulkhead('connections', '--customer', 'acme', '--connector', 'zendesk', '--json').split('\n').filter(Boolean).length === 1, 'two clicks do not make one connection')
  await page.goto(address)
  await says(page, 'the link again', 'This link cannot be used')
}

// shared connects an account of the organization itself, and is told who will use it.
async function shared(page) {
  await page.goto(link('internal', '--share-with', '*', '--share-for', 'listParcels'))
  await says(page, 'the link', 'flows of all customers of Paperworks can use it, for listParcels only')
  await shot(page, 'shared-phone')
  await button(page, 'Continue to Harbour').click()
  await page.getByLabel('Northwind Traders').check()
  await button(page, 'Allow').click()
  await says(page, 'the end', 'Connected as Northwind Traders')
  const [made] = connections('internal')
  check(made.shared.customers[0] === '*' && made.shared.actions[0] === 'listParcels', 'it is not shared')
  const flows = `${WORK}/parcels.yaml`
  const step = (name, action) => `  ${name}:\n    trigger: {manual: {}}\n    steps:\n      - {id: call, uses: harbour.${action}}\n`
  writeFileSync(flows, `bulkhead: 1\nintegration: parcels\nconnections: {harbour: {connector: harbour}}\nflows:\n${step('list', 'listParcels')}${step('other', 'getAccount')}`)
  bulkhead('deploy', flows, '--customer', 'acme', '--connection', `harbour=${made.id}`)
  bulkhead('trigger', 'acme/parcels', '--flow', 'list')
  let said = ''
  try {
    bulkhead('trigger', 'acme/parcels', '--flow', 'other')
  } catch (e) {
    said = `${e.stdout}${e.stderr}`
  }
  check(said.includes('egress-denied'), `an action that is not shared: ${said}`)
}

// elsewhere brings the answer of the provider into another browser than the one that was sent there, and then into the right one.
async function elsewhere(browser) {
  await visit(browser, desktop, async page => {
    await page.goto(link('acme', '--name', 'fifth'))
    await button(page, 'Continue to Harbour').click()
    await says(page, 'the provider', 'Let Bulkhead use your account?')
    const form = new URLSearchParams(await page.locator('form').evaluate(f => [...new FormData(f)]))
    form.set('decision', 'allow')
    const a = await fetch(`${HARBOUR}/authorize`, { method: 'POST', body: form, redirect: 'manual' })
    const answer = a.headers.get('location')
    check(a.status === 303 && answer.includes('code='), 'there is no answer')
    await visit(browser, desktop, async other => {
      await other.goto(answer)
      await says(other, 'an answer in another browser', 'does not belong to anything that was begun in this browser')
    })
    await page.goto(answer)
    await says(page, 'the same answer in the right one', 'Connected as Northwind Traders')
  })
}

// together puts pictures side by side, for the documents.
async function together(browser, name, ...list) {
  const page = await browser.newPage({ viewport: { width: 1180, height: 200 } })
  const pictures = list.map(n => `<img src="data:image/png;base64,${readFileSync(`${shots}/${n}.png`).toString('base64')}">`)
  await page.setContent(`<style>body{margin:0;padding:14px;display:flex;gap:14px;align-items:start;background:#cbd3d0}img{flex:1;min-width:0}</style>${pictures.join('')}`)
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true })
  await page.close()
}

await prepare()
if (shots) mkdirSync(shots, { recursive: true })
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
try {
  await visit(browser, desktop, page => connects(page, 'northwind', 'Northwind Traders', ['connect-desktop', 'consent-desktop', 'connected-desktop']))
  await visit(browser, phone, page => connects(page, 'acme', 'Acme Corporation', ['connect-phone', 'consent-phone', 'connected-phone']))
  await visit(browser, phone, impatient)
  await visit(browser, phone, declines)
  await visit(browser, desktop, keyboard)
  await visit(browser, phone, key)
  await visit(browser, phone, shared)
  await elsewhere(browser)
  if (shots) await together(browser, 'tour', 'connect-phone', 'consent-phone', 'connected-phone')
  const grants = JSON.parse(await get('/grants'))
  check(grants.every(g => g.reused === 0), 'a refresh token was used twice')
  console.log(`browser ${browser.version()}: ${checks} checks, 0 complaints; ${grants.length} grants`)
} finally {
  await browser.close()
}

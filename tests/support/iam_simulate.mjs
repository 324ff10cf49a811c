// Evaluates cells with @cloud-copilot/iam-simulate: JSON on stdin, one letter a cell on stdout.
// A: allowed, D: denied. a, d: the same, of a cell with condition keys that KMS really sends and that the engine's own check
// of keys would have dropped (kms:EncryptionContext:NAME). The core is asked without that check, which also validates all
// policies anew for each cell; the cells marked `whole` are put before all of it, and must not differ.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const main = createRequire(process.argv[2]).resolve('@cloud-copilot/iam-simulate')
const load = createRequire(main)
const part = (name) => load(join(dirname(main), name))
const { runSimulation, allowedContextKeysForRequest } = load(main)
const { loadPolicy } = load('@cloud-copilot/iam-policy')
const { authorize } = part('core_engine/CoreSimulatorEngine.js')
const { AwsRequestImpl } = part('request/request.js')
const { RequestContextImpl } = part('requestContext.js')
const { DiscoveryContextKeyConstraints } = part('context_keys/discoveryContextKeyConstraints.js')

const { account, identities, keys, cells } = JSON.parse(readFileSync(0, 'utf8'))
const loaded = (policies) => Object.fromEntries(Object.entries(policies).map(([name, policy]) => [name, loadPolicy(policy, { name })]))
const own = loaded(identities)
const ofKeys = loaded(keys)
const rest = { serviceControlPolicies: [], resourceControlPolicies: [] }
const known = new Map()

async function wouldDrop(cell) {
  if (!known.has(cell.action)) {
    const [service, action] = cell.action.split(':')
    known.set(cell.action, new Set(await allowedContextKeysForRequest(service, action, cell.resource, false)))
  }
  return Object.keys(cell.context).some((key) => key.startsWith('kms:encryptioncontext:') && !known.get(cell.action).has(key))
}

const told = []
for (const cell of cells) {
  const resource = { resource: cell.resource, accountId: account }
  const result = authorize({
    ...rest,
    request: new AwsRequestImpl(cell.principal, resource, cell.action, new RequestContextImpl(cell.context)),
    identityPolicies: [own[cell.identity]],
    resourcePolicy: ofKeys[cell.resource],
    simulationParameters: {
      simulationMode: 'Strict',
      discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([]),
    },
    serviceSettings: { s3: {} },
  }).result
  const dropped = await wouldDrop(cell)
  if (cell.whole && !dropped) {
    const whole = await runSimulation(
      {
        ...rest,
        request: { principal: cell.principal, action: cell.action, resource, contextVariables: cell.context },
        identityPolicies: [{ name: 'own', policy: identities[cell.identity] }],
        resourcePolicy: keys[cell.resource],
      },
      {},
    )
    if (whole.overallResult !== result) throw new Error(JSON.stringify([cell, result, whole]).slice(0, 2000))
  }
  const letter = result === 'Allowed' ? 'A' : 'D'
  told.push(dropped ? letter.toLowerCase() : letter)
}
process.stdout.write(told.join(''))

// Ask CosmJS's 19 routes of a node: node cosmjs_routes.cjs FOLDER URL CLIENT TX [QUERY], where FOLDER has node_modules.
// CLIENT is http, batch or websocket; QUERY is what it subscribes to of transactions. Prints one line of JSON for each route; a route that fails is an error.
const path = require("node:path");
const [folder, url, kind, transaction, query = "app.key EXISTS"] = process.argv.slice(2);
const { Comet38Client, HttpClient, HttpBatchClient, WebsocketClient } = require(
  path.join(folder, "node_modules", "@cosmjs", "tendermint-rpc"),
);
const clients = {
  http: () => new HttpClient(url),
  batch: () => new HttpBatchClient(url, { dispatchInterval: 20, batchSizeLimit: 10 }),
  websocket: () => new WebsocketClient(url.replace("http", "ws")),
};
const bytes = (text) => new TextEncoder().encode(text);
const shown = (_, value) =>
  typeof value === "bigint" ? value.toString() : value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
const tell = (route, value) => console.log(JSON.stringify({ route, value }, shown));

async function main() {
  const client = Comet38Client.create(clients[kind]());
  const hash = Uint8Array.from(Buffer.from(transaction, "hex"));
  const search = { query: "tx.height > 1", per_page: 2, page: 1, prove: true };
  const asked = {
    abciInfo: () => client.abciInfo(),
    abciQuery: () => client.abciQuery({ path: "/store", data: bytes("k1") }),
    block: () => client.block(3),
    blockResults: () => client.blockResults(4),
    blockSearch: () => client.blockSearch({ query: "block.height > 2", per_page: 2, page: 1 }),
    blockchain: () => client.blockchain(2, 4),
    broadcastTxSync: () => client.broadcastTxSync({ tx: bytes(`${kind}s=1`) }),
    broadcastTxAsync: () => client.broadcastTxAsync({ tx: bytes(`${kind}a=1`) }),
    broadcastTxCommit: () => client.broadcastTxCommit({ tx: bytes("refused") }),
    commit: () => client.commit(3),
    genesis: () => client.genesis(),
    health: () => client.health(),
    numUnconfirmedTxs: () => client.numUnconfirmedTxs(),
    status: () => client.status(),
    tx: () => client.tx({ hash, prove: true }),
    txSearch: () => client.txSearch(search),
    validators: () => client.validators({ height: 3, page: 1, per_page: 10 }),
  };
  const found = await Promise.all(Object.values(asked).map((ask) => ask()));
  Object.keys(asked).forEach((route, i) => tell(route, found[i]));
  if (kind === "websocket") {
    const streams = {
      subscribeNewBlock: client.subscribeNewBlock(),
      subscribeNewBlockHeader: client.subscribeNewBlockHeader(),
      subscribeTx: client.subscribeTx(query),
    };
    const waits = Object.entries(streams).map(
      ([route, stream]) =>
        new Promise((resolve, reject) =>
          stream.take(1).subscribe({ next: (event) => tell(route, event), error: reject, complete: resolve }),
        ),
    );
    await Promise.all(waits);
  }
  client.disconnect();
  process.exit(0); // a WebSocket of CosmJS that still has something to unsubscribe from connects again
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

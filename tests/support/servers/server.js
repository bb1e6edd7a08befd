// server.js PORT: Node's http server. It says what goes wrong on a connection.
const server = require("http").createServer((_, response) => response.end("hello"));
server.keepAliveTimeout = 75000;
server.on("connection", (socket) => socket.on("error", (error) => console.error(`connection: ${error.code}`)));
server.on("clientError", (error, socket) => {
  console.error(`client: ${error.code}`);
  socket.destroy();
});
server.listen(Number(process.argv[2]), "127.0.0.1");

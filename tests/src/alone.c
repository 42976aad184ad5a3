/* An agent that needs no library (cc -static): answers every request with the file /said, else with
   "alone". For images that hold nothing else. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    char said[256] = "alone", request[65536], answer[512];
    address.sin_port = htons(atoi(getenv("PORT")));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int file = open("/said", O_RDONLY);
    if (file >= 0) {
        ssize_t length = read(file, said, sizeof said - 1);
        said[length > 0 ? length : 0] = 0;
    }
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("listen");
        return 1;
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        if (read(client, request, sizeof request) > 0) {
            int length = snprintf(answer, sizeof answer,
                "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                strlen(said), said);
            if (write(client, answer, length) < 0) perror("write");
        }
        shutdown(client, SHUT_WR);
        while (read(client, request, sizeof request) > 0) {}
        close(client);
    }
}

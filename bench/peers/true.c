/* The program posix_spawn starts: nothing. */
int main(void)
{
    return 0;
}
